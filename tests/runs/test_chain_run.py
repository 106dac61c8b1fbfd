"""A run of a DDPM: on a chain, from the trainer to its own samplers."""

from pathlib import Path

import pytest
import torch
from flows import flow_recipe

from flowlib.chains import Chain
from flowlib.runs import Run, load_run, train
from flowlib.solvers import STEPS

NET = {"channels": (8,), "depth": 1, "patch": 2, "dim": 16}
RECIPE = flow_recipe(
    name="chain", net_args=NET, schedule="vp", chain=50, predicts="noise", time="uniform", steps=3,
    batch_size=8, precision="fp32",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(RECIPE, tmp_path_factory.mktemp("runs") / "chain", pictures=False, progress=False)


def test_a_run_on_a_chain_has_the_chain_for_its_path(run: Run) -> None:
    chain = load_run(run.folder).field.path.schedule
    assert isinstance(chain, Chain)
    torch.testing.assert_close(chain.var, Chain.linear(50).var, rtol=0, atol=0)


@pytest.mark.parametrize("method", [*STEPS, "ddim", "sde", "ddpm", "ddpm-large"])
def test_every_sampler_works_on_it_and_stays_in_range(run: Run, method: str) -> None:
    images = run.sample(torch.arange(4), scale=2.0, steps=5, method=method)
    assert images.shape == (4, 1, 8, 8)
    assert float(images.abs().max()) < 3
    if method.startswith("ddpm"):
        assert float(images.abs().max()) <= 1
        assert bool((images == run.sample(torch.arange(4), scale=2.0, steps=5, method=method)).all())


def test_both_variances_are_two_samplers(run: Run) -> None:
    small, large = (run.sample(count=4, steps=5, method=method) for method in ("ddpm", "ddpm-large"))
    assert float((small - large).abs().max()) > 1e-2


def test_only_grid_times_are_trained_on(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, given: seen.append(given[1]) if type(module).__name__ == "UNet" else None
    )
    try:
        train(RECIPE, tmp_path / "run", pictures=False, progress=False)
    finally:
        hook.remove()
    k = torch.cat(seen) * 50
    torch.testing.assert_close(k, k.round(), rtol=0, atol=1e-4)
