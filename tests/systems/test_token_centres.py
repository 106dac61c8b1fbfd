"""Tokens that begin at the centres of patches: k-means, what the network makes of images then, and its training."""

from pathlib import Path

import pytest
import torch
from examples import normal, seeded

from flowlib.data import Dataset, Scenes
from flowlib.recipes import change, find_recipe
from flowlib.runs import train
from flowlib.systems.dvae import DVAEStage, DVAESystem
from flowlib.systems.token_centres import FLAT, begin_at_centres, contrast, grouped, k_means

CORNERS = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 5.0]], dtype=torch.float64)


def error(points: torch.Tensor, centres: torch.Tensor) -> float:
    return float(torch.cdist(points, centres).min(1).values.square().mean())


def test_k_means_is_at_rest_where_each_centre_is_the_mean_of_its_points() -> None:
    points = (CORNERS[:, None] + 0.1 * normal(0, 4, 50, 2)).flatten(0, 1)
    centres = k_means(points, 4, seeded(0), rounds=40)
    means, size = grouped(points, torch.cdist(points, centres).argmin(1), 4)
    torch.testing.assert_close(means[size > 0], centres[size > 0])


def test_rounds_lower_the_error_and_no_more_points_than_there_are() -> None:
    points = normal(1, 500, 3)
    errors = [error(points, points[torch.randperm(500, generator=seeded(0))[:20]])]
    errors += [error(points, k_means(points, 20, seeded(0), rounds)) for rounds in (1, 5, 20)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.8 * errors[0]
    assert error(points, k_means(points, 500, seeded(0), 1)) < 1e-12
    with pytest.raises(ValueError, match="count must be at most 500"):
        k_means(points, 501, seeded(0))


def test_centres_begin_at_different_points_if_there_are_so_many() -> None:
    """One point 996 times and four others: two centres of five that began at the same one would leave another out."""
    points = torch.cat([torch.zeros(996, 2), CORNERS.float() + 1])
    for seed in range(5):
        assert error(points, k_means(points, 5, seeded(seed), 1)) < 1e-12
    assert error(points, k_means(points, 8, seeded(0), 1)) < 1e-12
    assert torch.equal(k_means(normal(1, 90, 3), 9, seeded(4)), k_means(normal(1, 90, 3), 9, seeded(4)))


def test_means_of_groups_are_means() -> None:
    mean, size = grouped(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([0, 0, 2]), 4)
    assert mean.flatten().tolist() == [2.0, 0.0, 7.0, 0.0]
    assert size.tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize("likelihood", ["gaussian", "logit-laplace"])
def test_images_of_few_patches_are_restored_before_training(likelihood: str) -> None:
    """Three grey levels and eight tokens: each patch has a centre that is itself."""
    x = torch.tensor([-0.8, 0.1, 0.6])[torch.randint(3, (20, 1, 4, 4), generator=seeded(0))]
    x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    system = DVAESystem(tokens=8, latent_channels=4, channels=8, factor=2, centres=20, likelihood=likelihood)
    data = Dataset(x, name="patches", levels=256)
    dvae = system.network(data.spec)
    system.begin(dvae, data, 0)
    torch.testing.assert_close(dvae(x), x, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="dvae must have centres"):
        begin_at_centres(DVAESystem(channels=8, factor=2).network(data.spec), x, 1.0, seeded(0))


def test_the_gain_is_that_of_the_mean_distance() -> None:
    x = Scenes().batch(torch.arange(40))["x"]
    system = DVAESystem(tokens=32, latent_channels=4, channels=8, factor=2, centres=40, gain=3.0)
    dvae = system.network(Scenes().spec)
    system.begin(dvae, Scenes(), 0)
    patches = torch.nn.functional.pixel_unshuffle(x, 2).movedim(1, -1).flatten(0, 2)
    apart = torch.cdist(patches, dvae.centres.centre.detach()).min(1).values.square()
    weight = contrast(x, 2) + FLAT  # with which k-means has met them
    nearest = (weight * apart).sum() / weight.sum()
    assert float(dvae.centres.log_sharpness.detach().exp() * nearest) == pytest.approx(3.0, rel=0.05)


def test_contrast_is_that_within_a_patch() -> None:
    x = torch.zeros(1, 2, 2, 4)
    x[0, 0, :, 2:] = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    x[0, 1] = 0.7
    torch.testing.assert_close(contrast(x, 2), torch.tensor([0.0, 0.5**0.5]))


def test_a_stage_begins_there_and_a_training_goes_on_from_there(tmp_path: Path) -> None:
    settings = {"tokens": 32, "latent_channels": 4, "channels": 8, "factor": 2, "centres": 50, "steps": 2}
    stage = DVAEStage(**settings, likelihood="logit-laplace")  # type: ignore[arg-type]
    one, other = stage.network(Scenes().spec), stage.network(Scenes().spec)
    for dvae in (one, other):
        stage.stage(dvae, Scenes())
    assert torch.equal(one.centres.centre, other.centres.centre)  # the seed decides, so a run can be resumed
    assert float(one.centres.centre.detach().abs().max()) <= 1
    settings.pop("steps")
    run = train(change(find_recipe("dvae"), data="scenes", **settings, steps=2, batch_size=4), tmp_path, pictures=False)
    assert torch.allclose(run.module.centres.centre, one.centres.centre, atol=0.05)
    with pytest.raises(ValueError, match="centres must be"):
        DVAESystem(centres=-1)
