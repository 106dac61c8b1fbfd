"""Recipes on a chain: those with names, and those that cannot be."""

import pytest
import torch
from flows import flow_recipe

from flowlib.data import Spec
from flowlib.recipes import find_recipe
from flowlib.runs.run import build


def test_recipes_for_both_chains_have_names() -> None:
    for name, abar in (("ddpm-linear", 4.04e-5), ("ddpm-cosine", 2.43e-9)):
        recipe = find_recipe(name)
        assert (recipe.system.predicts, recipe.system.chain, recipe.system.time) == ("noise", 1000, "uniform")
        chain = build(recipe, Spec((1, 28, 28), 10)).path.schedule
        assert float(chain.alpha(torch.zeros(1).double()) ** 2) == pytest.approx(abar, rel=1e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chain": -1}, "chain must be an integer >= 0"),
        ({"chain": 10}, "steps must be above 20"),
        ({"time": "logit-normal"}, "time must be 'uniform' on a chain"),
    ],
)
def test_a_chain_that_cannot_be_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flow_recipe(**{"steps": 3, "schedule": "vp", "chain": 50, "time": "uniform", **changes})
