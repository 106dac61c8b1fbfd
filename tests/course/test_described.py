"""What a check and an answer send each other as data of the course's own classes."""

from types import SimpleNamespace

import pytest

from flowlib.course.grading import described
from flowlib.paths import GaussianPath
from flowlib.schedules import SCHEDULES


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_and_a_path_on_it_arrive_as_they_were(name: str) -> None:
    peer = SimpleNamespace(blocks=[])
    schedule = SCHEDULES[name]()
    kind, *rest = described.plain(peer, GaussianPath(schedule))
    path = described.unpacked(peer, *rest)
    assert (kind, type(path), path.schedule) == ("plain", GaussianPath, schedule)
