"""A system of one file outside the package, docs/add_a_system.py, through the command line: nothing else knows it.

The same for the recipes that are no flows: trained, killed for good, resumed to the same bits, sampled, measured.
"""

from pathlib import Path

import pytest
import torch
from processes import Process, command, kill_on_the_way, start

import flowlib
from flowlib.training import checkpoint

FILE = Path(flowlib.__file__).parent.parent / "docs" / "add_a_system.py"
STEPS = 120
MANY = {"gaussians": 1200}  # those whose steps take no time would end before they were killed
SMALL = ["--data", "digits", "--set", "batch_size=32", "--set", "precision=fp32"]
UNET = ["--set", "net.channels=[8,16]", "--set", "net.dim=16", "--set", "net.patch=1"]
SYSTEMS = {
    "gaussians": [],
    "gan": ["--set", "channels=8"],
    "vae": ["--set", "channels=8"],
    "dvae": ["--set", "channels=8", "--set", "factor=2"],
    "denoiser": ["--set", "channels=8"],
    "classifier": ["--set", "channels=[8,16]"],
    "words": UNET,
    "inpainting": UNET,
}


def begin(name: str, folder: Path, **options: bool) -> Process:
    steps = ["--steps", str(MANY.get(name, STEPS))]
    return start(name, folder, *steps, *SMALL, *SYSTEMS[name], FLOWLIB_SYSTEMS=str(FILE), **options)


def flowlib_says(*words: str, status: int = 0) -> str:
    process = command(*words, FLOWLIB_SYSTEMS=str(FILE))
    output, error = (text.decode() for text in process.communicate())
    assert process.returncode == status, error
    return output or error


@pytest.fixture(scope="module", params=["gaussians", *(pytest.param(n, marks=pytest.mark.full) for n in SYSTEMS if n != "gaussians")])  # fmt: skip  # noqa: E501
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A run that was killed twice on its way and went on, beside one that never stopped.

    The one that never stopped hashes strings by another seed.
    """
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    whole = begin(name, folder / "whole", fork=False)
    stride = MANY.get(name, STEPS) // 4
    kill_on_the_way(lambda: begin(name, folder / "run"), folder / "run", stride=stride, least=2, most=2)
    error = whole.communicate()[1]
    assert whole.returncode == 0, error.decode()
    return name, folder


def test_a_run_that_was_killed_has_the_bits_of_one_that_was_not(killed: tuple[str, Path]) -> None:
    a, b = (checkpoint.load(killed[1] / name / "checkpoints") for name in ("whole", "run"))
    assert a.step == b.step == MANY.get(killed[0], STEPS)
    for one, other in ((a.weights, b.weights), (a.average, b.average)):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_sampled_and_measured(killed: tuple[str, Path]) -> None:
    name, folder = killed
    table = flowlib_says("evaluate", str(folder / "run"), "--samples", "100", "--out", str(folder / "table.json"))
    assert len(table.splitlines()) > 2
    assert (folder / "table.json").exists()
    picture = str(folder / "samples.png")
    if name in ("denoiser", "classifier"):
        said = flowlib_says("sample", str(folder / "run"), "--out", picture, status=2)
        assert said == f"flowlib: a run of the system '{name}' does not sample\n"
    else:
        assert (
            flowlib_says("sample", str(folder / "run"), "--count", "20", "--out", picture) == f"20 samples: {picture}\n"
        )
        assert Path(picture).stat().st_size > 500


def test_its_command_is_there_and_its_recipe(tmp_path: Path) -> None:
    assert "Draw the mean image of a label." in flowlib_says("--help")
    assert "gaussians" in flowlib_says("recipes")
    flowlib_says("train", "gaussians", "--out", str(tmp_path / "run"), "--steps", "5", "--no-pictures")
    picture = tmp_path / "mean.png"
    assert str(picture) in flowlib_says("mean", str(tmp_path / "run"), "--label", "3", "--out", str(picture))
    assert picture.exists()
    said = flowlib_says("mean", str(tmp_path / "run"), "--label", "-3", status=2)
    assert said == "flowlib: label must be an integer >= 0, got -3\n"
