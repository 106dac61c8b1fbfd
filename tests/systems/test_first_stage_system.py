"""The first stage as a system of its own: with a rival or a codebook, measured, and finished for a latent flow."""

import math
from pathlib import Path

import pytest
import torch

from flowlib.data import Dataset, Spec
from flowlib.nets import Autoencoder, CodebookAutoencoder
from flowlib.recipes import change, find_recipe
from flowlib.runs import load_run, train
from flowlib.runs.run import build
from flowlib.systems import FirstStageSystem, LatentFlowSystem, ReportRequest, Splits
from flowlib.systems.first_stage import Rivals
from flowlib.systems.vae import kl_to_normal
from flowlib.training import read_metrics

TINY = {"channels": 8, "latent_channels": 2, "steps": 3, "batch_size": 4, "precision": "fp32"}


@pytest.fixture
def data() -> Dataset:
    x = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Dataset(x, torch.arange(20) % 10, 10, "own")


def test_the_rival_is_a_player_and_part_of_the_run(data: Dataset, tmp_path: Path) -> None:
    recipe = change(find_recipe("first-stage"), perceptual=0.1, adversarial=0.3, **TINY)
    run = train(recipe, tmp_path / "run", data=data, progress=False)  # with its pictures
    assert isinstance(run.module, Rivals)
    assert {"autoencoder_loss", "discriminator_loss"} < set(read_metrics(run.folder / "metrics.jsonl")[0])
    untrained = build(recipe, data.spec).state_dict()
    moved = [name for name, value in run.module.state_dict().items() if not torch.equal(value, untrained[name])]
    assert {name.split(".")[0] for name in moved} == {"autoencoder", "discriminator"}

    system = LatentFlowSystem(net_args={"channels": (8,), "patch": 1, "dim": 8}, parts={"autoencoder": str(run.folder)})
    latents = change(find_recipe("mnist-latent"), system=system, steps=2, batch_size=4)
    flow = train(latents, tmp_path / "flow", data=data, pictures=False, progress=False)
    for name, value in run.module.autoencoder.state_dict().items():
        assert torch.equal(flow.module.autoencoder.state_dict()[name], value)


@pytest.mark.parametrize("codebook", [0, 8])
def test_the_report_has_the_rate_and_the_codebooks_use(codebook: int, data: Dataset, tmp_path: Path) -> None:
    recipe = change(find_recipe("first-stage"), codebook=codebook, **TINY)
    train(recipe, tmp_path, data=data, pictures=False, progress=False)
    run = load_run(tmp_path, "cpu")
    assert isinstance(run.module, CodebookAutoencoder if codebook else Autoencoder)
    request = ReportRequest(spec=run.spec, samples=20, batch_size=7)
    original, restored = run.recipe.system.report(run.module, Splits(data, data), {}, request)
    assert original["distortion"] == 0 < float(restored["distortion"])
    if codebook:
        assert restored["rate"] == 49 * math.log(8)
        assert 1 <= float(restored["perplexity"]) <= 8
    else:
        with torch.no_grad():
            expected = float(kl_to_normal(*run.module.encode(data.images)).mean())
        assert math.isclose(float(restored["rate"]), expected, rel_tol=1e-5)


def test_bad_settings_are_refused_by_name() -> None:
    for settings, message in (
        ({"codebook": -1}, "codebook"),
        ({"adversarial": -1.0}, "adversarial"),
        ({"factor": 0}, "factor"),
    ):
        with pytest.raises(ValueError, match=message):
            FirstStageSystem(**settings)
    with pytest.raises(ValueError, match="factor 4 does not divide"):
        build(find_recipe("first-stage"), Spec((1, 30, 30), 10))
