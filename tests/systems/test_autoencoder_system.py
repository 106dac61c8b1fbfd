"""The autoencoder as a system, of images and of points: certain latents, and what a latent flow makes of them."""

from pathlib import Path

import pytest
import torch
from flows import flow_recipe

from flowlib.data import Dataset, Spec
from flowlib.nets import Autoencoder, PointAutoencoder
from flowlib.nets.autoencoder import draw
from flowlib.recipes import change, find_recipe
from flowlib.runs import train
from flowlib.runs.run import build
from flowlib.systems import FirstStage, LatentFlowSystem
from flowlib.systems.denoiser import denoiser_score, gaussian_noise

SMALL = {"channels": (8,), "patch": 1, "depth": 1, "dim": 8}
DIGITS = Spec((1, 8, 8), 10)


def images(count: int = 40) -> Dataset:
    x = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Dataset(x, torch.arange(count) % 10, 10, "own")


@pytest.mark.parametrize(("name", "certain"), [("autoencoder", True), ("denoiser", True), ("vae", False)])
def test_only_a_variational_latent_has_a_variance(name: str, certain: bool) -> None:
    for spec in (DIGITS, Spec((2,), 8)):
        module = build(change(find_recipe(name), channels=8), spec)
        assert isinstance(module, Autoencoder if len(spec.shape) == 3 else PointAutoencoder)
        x = torch.randn(5, *spec.shape)
        mean, log_variance = module.encode(x)
        assert bool((log_variance == -torch.inf).all()) == certain
        assert module(x).shape == x.shape
        assert torch.equal(module(x), module.decode(mean))


def test_a_flow_takes_the_latents_of_a_plain_autoencoder_as_they_are(tmp_path: Path) -> None:
    """They are points: nothing is added to them, and the scale is that of their own spread."""
    data, sizes = images(), {"channels": 8, "steps": 2, "batch_size": 8}
    plain = train(change(find_recipe("autoencoder"), **sizes), tmp_path, data=data, pictures=False, progress=False)
    mean, log_variance = plain.module.encode(data.images)
    assert torch.equal(draw(mean, log_variance, torch.Generator().manual_seed(0)), mean)
    system = LatentFlowSystem(net_args=SMALL, parts={"autoencoder": str(plain.folder)})
    recipe = change(find_recipe("mnist-latent"), system=system, precision="fp32")
    latent = build(recipe, data.spec, {"autoencoder": plain.module})
    (stage,) = system.stages(latent, data, {})
    stage.task(recipe.training)  # type: ignore[operator]  # which finds the scale
    torch.testing.assert_close(latent.scale, 1 / mean.std(correction=0), rtol=1e-4, atol=0)


def test_the_latents_are_scaled_to_the_stated_spread(tmp_path: Path) -> None:
    stage = FirstStage(steps=2, channels=8, batch_size=8)
    recipe = flow_recipe(first_stage=stage, latent_std=0.1, net_args=SMALL, steps=1)
    run = train(recipe, tmp_path, data=images(), pictures=False, progress=False)
    codes = run.field.encode(images().images, torch.Generator().manual_seed(0))
    assert abs(codes.std() / 0.1 - 1) < 0.1
    with pytest.raises(ValueError, match="latent_std must"):
        change(recipe, latent_std=0.0)


def test_a_denoiser_of_points_learns_their_score(tmp_path: Path) -> None:
    x = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    data = Dataset(x, name="normal points")
    recipe = change(find_recipe("denoiser"), std=1.0, channels=32, steps=300, batch_size=256, lr=1e-2)
    run = train(recipe, tmp_path, data=data, progress=False)  # with its pictures
    noised = gaussian_noise(1.0)(x, torch.Generator().manual_seed(1))
    with torch.no_grad():
        error = denoiser_score(run.module, noised, 1.0) - (-noised / 2)  # N(0, 2 I)
    assert float(error.square().mean() / (noised / 2).square().mean()) < 0.03
    assert len(list((tmp_path / "samples").iterdir())) == 4


def test_no_latent_flow_stands_on_a_network_of_points() -> None:
    system = LatentFlowSystem(parts={"autoencoder": "somewhere"})
    recipe = change(find_recipe("mnist-latent"), system=system)
    with pytest.raises(ValueError, match="'autoencoder' must hold an Autoencoder of images, got PointAutoencoder"):
        build(recipe, DIGITS, {"autoencoder": PointAutoencoder(2)})
