"""Docstrings of losses and samplers: complete on their own. `test_examples.py` runs the examples of all."""

import inspect
import re
from collections.abc import Callable

import pytest

from flowlib import losses, samplers


@pytest.mark.parametrize(
    "function",
    [
        losses.flow_matching_loss,
        losses.score_matching_loss,
        losses.prediction_loss,
        samplers.sample_ode,
        samplers.sample_sde,
        samplers.sample_ddim,
    ],
)
def test_every_argument_is_explained_where_it_is_read(function: Callable[..., object]) -> None:
    text = function.__doc__ or ""
    for section in ("Args:", "Returns:", "Raises:", "Example:"):
        assert section in text
    arguments = text.split("Args:")[1].split("Returns:")[0]
    for name in inspect.signature(function).parameters:
        assert re.search(rf"^        (\w+, )*{name}(, \w+)*: \S", arguments, re.MULTILINE), name
    assert not re.search(r"\bas (there|in `)", text)
