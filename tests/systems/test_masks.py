"""Losses of masks, simulated clicks, the regions of scenes, and automatic masks: against their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from flowlib.data import Scenes
from flowlib.nets.prompts import PromptEncoder
from flowlib.systems.automatic_masks import automatic_masks, point_grid, stability_score, suppress
from flowlib.systems.clicks import ROUGH, error_click, loose_box, pick_pixel, rough_mask
from flowlib.systems.mask_losses import dice_loss, focal_loss, iou_of, mask_loss
from flowlib.systems.prompting import Chances, called, converse, crops_of, first_prompt
from flowlib.systems.regions import KINDS, Regions, convex_hull, drawn_targets, regions_of


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_masks(count: int, share: float = 0.3, size: int = 6, seed: int = 0) -> Tensor:
    masks = torch.rand(count, size, size, generator=seeded(seed)) < share
    masks[:, 0, 0] = True
    return masks


# --- losses


def test_focal_loss_is_its_definition() -> None:
    logits = 3 * torch.randn(5, 4, 4, generator=seeded(0)).double()
    truth = (torch.rand(5, 4, 4, generator=seeded(1)) < 0.3).double()
    p = logits.sigmoid()
    p_t, alpha_t = torch.where(truth > 0, p, 1 - p), torch.where(truth > 0, 0.25, 0.75)
    expected = -(alpha_t * (1 - p_t) ** 2 * p_t.log()).mean((1, 2))
    assert torch.allclose(focal_loss(logits, truth), expected, atol=1e-12)
    half = nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((1, 2)) / 2
    assert torch.allclose(focal_loss(logits, truth, gamma=0, alpha=0.5), half, atol=1e-12)
    far = torch.full((1, 2, 2), 200.0)
    assert focal_loss(far, torch.zeros(1, 2, 2)).tolist() == [150.0]  # 0.75 of 200 nats, and no infinity


def test_dice_loss_is_its_definition() -> None:
    logits = 3 * torch.randn(5, 4, 4, generator=seeded(0)).double()
    truth = random_masks(5, size=4).double()
    p = logits.sigmoid()
    both = (p * truth).sum((1, 2))
    assert torch.allclose(dice_loss(logits, truth), 1 - 2 * both / (p.sum((1, 2)) + truth.sum((1, 2))), atol=1e-12)
    sure = 400 * (2 * truth - 1)
    assert dice_loss(sure, truth).tolist() == [0.0] * 5
    assert dice_loss(-sure, truth).tolist() == [1.0] * 5


@pytest.mark.parametrize("outside", [10, 1000, 100_000])
def test_dices_gradient_does_not_care_how_much_lies_outside(outside: int) -> None:
    """One pixel in the mask, of which p = 1/2, among others that are known to lie outside.

    Dice is 1 - 2 p / (p + 1), whose derivative by the logit is -2 p (1 - p) / (1 + p)^2 = -2/9. That of the focal loss,
    a mean over pixels, is alpha (1 - p)^2 (2 p ln p - (1 - p)) over their number, and vanishes as the outside grows.
    """
    logits = torch.full((1, 1, 1 + outside), -60.0, dtype=torch.float64)
    logits[..., 0] = 0
    logits.requires_grad_()
    truth = torch.zeros_like(logits)
    truth[..., 0] = 1
    (dice,) = torch.autograd.grad(dice_loss(logits, truth).sum(), logits)
    (focal,) = torch.autograd.grad(focal_loss(logits, truth).sum(), logits)
    assert float(dice[0, 0, 0]) == pytest.approx(-2 / 9, rel=1e-9)
    at_half = 0.25 * 0.25 * (2 * 0.5 * math.log(0.5) - 0.5)
    assert float(focal[0, 0, 0]) == pytest.approx(at_half / (1 + outside), rel=1e-9)


def test_only_the_best_mask_learns_the_mask_and_all_learn_their_iou() -> None:
    truth = random_masks(2)
    logits = torch.randn(2, 3, 6, 6, generator=seeded(2)).double()
    logits[0, 1], logits[1, 2] = 2.0 * (2 * truth[0].double() - 1), 2.0 * (2 * truth[1].double() - 1)
    logits.requires_grad_()
    iou = torch.rand(2, 3, generator=seeded(3)).double().requires_grad_()
    found = mask_loss(logits, iou, truth)
    (gradient,) = torch.autograd.grad(found["loss"], logits, retain_graph=True)
    moved = gradient.abs().amax((2, 3)) > 0
    assert moved.tolist() == [[False, True, False], [False, False, True]]
    (gradient,) = torch.autograd.grad(found["loss"], iou)
    actual = iou_of(logits > 0, truth[:, None]).double()
    assert torch.allclose(gradient, 2 * (iou.detach() - actual) / 6, atol=1e-6)
    best = 20 * focal_loss(logits[0, 1].float(), truth[0].float()) + dice_loss(logits[0, 1].float(), truth[0].float())
    other = 20 * focal_loss(logits[1, 2].float(), truth[1].float()) + dice_loss(logits[1, 2].float(), truth[1].float())
    assert float(found["mask"].detach()) == pytest.approx(float((best + other).detach() / 2), rel=1e-5)


def test_a_shared_loss_reaches_all_masks() -> None:
    truth = random_masks(2)
    logits = torch.randn(2, 3, 6, 6, generator=seeded(2)).requires_grad_()
    iou = torch.zeros(2, 3)
    every, best = (mask_loss(logits, iou, truth, shared)["mask"] for shared in (1.0, 0.0))
    (gradient,) = torch.autograd.grad(every, logits, retain_graph=True)
    assert bool((gradient.abs().amax((2, 3)) > 0).all())
    half = mask_loss(logits, iou, truth, 0.5)["mask"]
    assert float(half.detach()) == pytest.approx(float((every + best).detach() / 2), rel=1e-6)
    with pytest.raises(ValueError, match="shared must be"):
        mask_loss(logits, iou, truth, 1.5)


def test_iou_counts_pixels() -> None:
    a = torch.tensor([[1, 1, 0], [0, 0, 0]]).bool()
    b = torch.tensor([[0, 1, 1], [0, 0, 0]]).bool()
    assert float(iou_of(a, b)) == pytest.approx(1 / 3)
    assert float(iou_of(a, a)) == 1
    assert float(iou_of(~a & a, ~a & a)) == 1
    assert float(iou_of(a, ~a & a)) == 0


def test_an_empty_truth_is_refused() -> None:
    with pytest.raises(ValueError, match="truth must not be empty"):
        mask_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3), torch.zeros(1, 4, 4).bool())
    with pytest.raises(ValueError, match=r"must be \(B, K, H, W\), \(B, K\) and \(B, H, W\)"):
        mask_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2), torch.ones(1, 4, 4).bool())


# --- clicks


@given(seed=st.integers(0, 10_000), chance=st.floats(0, 1, exclude_max=True), share=st.floats(0, 1))
def test_a_click_lies_where_the_mask_is_wrong_and_says_how(seed: int, chance: float, share: float) -> None:
    truth, predicted = random_masks(1, 0.4, 5, seed), torch.rand(1, 5, 5, generator=seeded(seed + 1)) < share
    point, label = error_click(truth, predicted, torch.tensor([chance], dtype=torch.float64))
    x, y = (int(value) for value in point[0, 0])
    if torch.equal(truth, predicted):
        assert label.tolist() == [[-1]]
        return
    assert bool(truth[0, y, x] != predicted[0, y, x])
    assert label.tolist() == [[int(truth[0, y, x])]]


def test_every_pixel_of_a_region_is_as_likely() -> None:
    region = random_masks(1, 0.4, 5)
    count = int(region.sum())
    chance = (torch.arange(count) + 0.5) / count
    points = pick_pixel(region.expand(count, -1, -1), chance).long()
    hit = torch.zeros(5, 5, dtype=torch.long)
    hit.index_put_((points[:, 1], points[:, 0]), torch.ones(count, dtype=torch.long), accumulate=True)
    assert torch.equal(hit, region[0].long())
    assert pick_pixel(region, torch.tensor([1 - 1e-9], dtype=torch.float64)).tolist() == points[-1:].tolist()


def test_a_box_is_that_of_the_mask_moved_by_a_tenth_at_most_a_pixel() -> None:
    truth = torch.zeros(1, 40, 40, dtype=torch.bool)
    truth[0, 10:15, 8:28] = True  # 20 wide, 5 high
    exact = loose_box(truth, torch.zeros(1, 4))
    assert exact.tolist() == [[8.0, 10.0, 27.0, 14.0]]
    noise = torch.tensor([[0.1, -0.5, 0.2, 0.5]])
    assert torch.allclose(loose_box(truth, noise), exact + torch.tensor([[0.2, -0.25, 0.4, 0.25]]))
    assert torch.allclose(loose_box(truth, 100 * noise), exact + torch.tensor([[1.0, -1.0, 1.0, 1.0]]))
    whole = torch.ones(1, 40, 40, dtype=torch.bool)
    assert loose_box(whole, torch.tensor([[-9.0, -9.0, 9.0, 9.0]])).tolist() == [[0.0, 0.0, 39.0, 39.0]]


def test_a_rough_mask_is_one_pixel_too_wide() -> None:
    truth = torch.zeros(1, 5, 5, dtype=torch.bool)
    truth[0, 2, 1] = True
    square = torch.zeros(5, 5, dtype=torch.bool)
    square[1:4, 0:3] = True
    assert torch.equal(rough_mask(truth)[0, 0], torch.where(square, ROUGH, -ROUGH))


class Recorder(nn.Module):
    """In the place of a SAM: it answers with given masks, and remembers what it was asked."""

    def __init__(self, truth: Tensor) -> None:
        super().__init__()
        self.truth, self.asked = truth, []

    def masks(self, embedding: Tensor, several: bool = True, **prompts: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append((several, {name: value.clone() for name, value in prompts.items()}))
        count = 3 if several else 1
        shape = (len(self.truth), count, *self.truth.shape[1:])
        logits = torch.randn(shape, generator=seeded(len(self.asked))).requires_grad_()
        return logits, torch.rand(shape[:2], generator=seeded(len(self.asked)))


def test_a_conversation_is_a_prompt_then_clicks_in_the_error_and_two_rounds_without() -> None:
    truth = random_masks(4)
    sam, chances = Recorder(truth), Chances(torch.rand(4, 6, generator=seeded(0)), torch.zeros(4, 4))
    answers = list(converse(sam, torch.zeros(4, 1), truth, first_prompt("point", truth, chances), chances, (2, 5)))
    assert [several for several, _ in sam.asked] == [True, False, False, False, False, False]
    assert [prompts["points"].shape[1] for _, prompts in sam.asked] == [1, 2, 2, 3, 4, 4]
    for i, (logits, iou) in enumerate(answers[:-1]):
        given = sam.asked[i + 1][1]
        best = logits[torch.arange(4), iou.argmax(1)]
        assert torch.equal(given["masks"][:, 0], best)  # logits, of the mask that is rated highest
        assert not given["masks"].requires_grad
        if i + 1 in (2, 5):
            assert torch.equal(given["points"], sam.asked[i][1]["points"])
            continue
        x, y = given["points"][:, -1].long().unbind(1)
        wrong = (best > 0)[torch.arange(4), y, x] != truth[torch.arange(4), y, x]
        assert bool(wrong.all())
        assert torch.equal(given["labels"][:, -1], truth[torch.arange(4), y, x].long())


def test_a_first_prompt_is_what_it_is_called() -> None:
    truth, chances = random_masks(3), Chances(torch.rand(3, 3, generator=seeded(0)), torch.zeros(3, 4))
    point = first_prompt("point", truth, chances)
    x, y = point["points"][:, 0].long().unbind(1)
    assert bool(truth[torch.arange(3), y, x].all())
    assert point["labels"].tolist() == [[1]] * 3
    assert set(first_prompt("box", truth, chances)) == {"boxes"}
    assert set(first_prompt("mask", truth, chances)) == {"masks"}
    assert first_prompt("text", truth, chances, torch.eye(3))["text"].shape == (3, 3)


# --- regions


def test_hulls_are_those_of_a_geometry_library() -> None:
    from scipy.spatial import ConvexHull

    masks = random_masks(40, 0.06, 12, 3)
    grid = np.stack(np.meshgrid(np.arange(12), np.arange(12), indexing="ij"), axis=-1).reshape(-1, 2)
    compared = 0
    for mask, found in zip(masks, convex_hull(masks), strict=True):
        places = mask.nonzero().numpy().astype(float)
        if len(places) < 3 or np.linalg.matrix_rank(places - places[0]) < 2:
            continue
        planes = ConvexHull(places).equations
        inside = (grid @ planes[:, :2].T + planes[:, 2] <= 1e-9).all(1).reshape(12, 12)
        assert np.array_equal(found.numpy(), inside)
        compared += 1
    assert compared > 30


def test_hulls_of_points_and_lines_are_themselves() -> None:
    line = torch.zeros(5, 5, dtype=torch.bool)
    assert not bool(convex_hull(line).any())
    line[1, 1] = True
    assert torch.equal(convex_hull(line), line)
    line[3, 3] = True
    assert convex_hull(line).nonzero().tolist() == [[1, 1], [2, 2], [3, 3]]
    slanted = torch.zeros(5, 5, dtype=torch.bool)
    slanted[0, 0] = slanted[1, 3] = True
    assert torch.equal(convex_hull(slanted), slanted)  # no other centre lies between them


def test_one_point_in_a_scene_may_mean_three_things() -> None:
    batch = Scenes(split="test").batch(torch.arange(200))
    masks, valid = regions_of(batch)
    assert masks.shape == (200, len(KINDS), 16, 16)
    two = batch["objects"][:, 1, 0] >= 0
    assert not bool(valid[~two][:, [1, 3, 4]].any())
    assert float(valid[two].all(1).float().mean()) > 0.95
    assert bool(valid.any(1).all())
    for stroke, hull in ((0, 2), (1, 3)):
        assert bool((masks[:, hull] | ~masks[:, stroke]).all())  # each lies in the next
        assert bool((masks[:, 4] | ~masks[:, hull]).all())
    areas = masks[two].sum((2, 3)).float().mean(0)
    assert float(areas[0]) < 0.8 * float(areas[2]) < 0.8 * float(areas[4])


def test_targets_are_drawn_from_what_is_there() -> None:
    masks = torch.zeros(3, 4, 2, 2, dtype=torch.bool)
    masks[0, 1, 0, 0] = masks[0, 3, 1, 1] = masks[2, 0, 0, 1] = True
    regions = regions_of({"regions": masks})
    assert regions.valid.tolist() == [[False, True, False, True], [False] * 4, [True, False, False, False]]
    row, region, truth, draw = drawn_targets(regions, torch.tensor([[0.0, 0.49, 0.51]] * 3))
    assert row.tolist() == [0, 0, 0, 2, 2, 2]
    assert draw.tolist() == [0, 1, 2, 6, 7, 8]
    assert region.tolist() == [1, 1, 3, 0, 0, 0]
    assert bool(truth.flatten(1).any(1).all())
    drawn = drawn_targets(Regions(masks[:1], regions.valid[:1]), torch.rand(1, 4000, generator=seeded(0)))[1]
    assert abs(float((drawn == 1).float().mean()) - 0.5) < 0.04


def test_regions_are_called_by_their_digits() -> None:
    batch = Scenes(split="test").batch(torch.arange(50))
    i = int((batch["objects"][:, 1, 0] >= 0).nonzero()[0])
    objects = batch["objects"][[i] * 5]
    names = called(objects, torch.arange(5))
    assert names[4] == batch["short"][i]
    first, second = names[4].split(" and ")
    assert names[:4] == [first, second, first, second]


def test_a_crop_shows_the_mask_and_for_half_of_them_nothing_else() -> None:
    truth = torch.zeros(2, 16, 16, dtype=torch.bool)
    truth[:, 4:8, 8:12] = True
    images = torch.full((2, 3, 16, 16), -0.5)
    images[:, :, 4:8, 8:12] = 0.75
    images[:, :, 4:8, 13:15] = 1.0  # something else, near by
    uniform = torch.tensor([[0.0, 1.0, 0.9], [0.0, 1.0, 0.1]])  # twice as large; with all, alone
    crops = crops_of(images, truth, Chances(uniform, torch.zeros(2, 4)))
    assert crops.shape == images.shape
    assert torch.allclose(crops[:, :, 5:11, 5:11], torch.tensor(0.75))  # 4 pixels of 8 are the middle 8 of 16
    assert float(crops[0].amax()) > 0.9
    assert float(crops[1].amax()) == pytest.approx(0.75)
    close_up = crops_of(images, truth, Chances(torch.zeros(2, 3), torch.zeros(2, 4)))
    assert float(close_up[:, :, 2:-2, 2:-2].amin()) == pytest.approx(0.75)


# --- automatic masks


def test_stability_is_the_iou_of_two_cuts() -> None:
    logits = torch.tensor([[[2.0, 0.5], [-0.5, -2.0]], [[5.0, -5.0], [-5.0, -5.0]], [[-3.0, -3.0], [-3.0, -3.0]]])
    assert stability_score(logits).tolist() == pytest.approx([1 / 3, 1.0, 0.0])
    assert stability_score(logits, offset=0.4).tolist() == pytest.approx([1.0, 1.0, 0.0])
    low = iou_of(logits > 0.7, logits > -0.7)
    assert stability_score(logits, 0.7)[:2].tolist() == pytest.approx(low[:2].tolist())


def test_suppression_keeps_the_best_of_each_crowd() -> None:
    masks = torch.zeros(4, 1, 10, dtype=torch.bool)
    masks[0, 0, :5] = masks[1, 0, :4] = masks[2, 0, 1:9] = masks[3, 0, 9:] = True
    overlap = iou_of(masks[:, None], masks[None])
    assert suppress(overlap, torch.tensor([0.8, 0.9, 0.7, 0.1]), 0.7).tolist() == [1, 2, 3]
    assert suppress(overlap, torch.tensor([0.8, 0.9, 0.7, 0.1]), 0.8).tolist() == [1, 0, 2, 3]  # 0.8 is no more
    assert suppress(overlap, torch.tensor([0.5, 0.5, 0.5, 0.5]), 0.0).tolist() == [0, 3]
    assert suppress(overlap[:0, :0], torch.zeros(0), 0.5).tolist() == []


class Segmenter(nn.Module):
    """A SAM that knows: each point is answered by the half that it lies in, by a doubtful quarter, and by nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt_encoder = PromptEncoder(8, (4, 4), (8, 8))
        self.embedded = 0

    def embed(self, images: Tensor) -> Tensor:
        self.embedded += 1
        return images

    def masks(self, embedding: Tensor, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        assert labels.tolist() == [[1]] * len(points)
        left = (points[:, 0, 0] < 3.5)[:, None, None]
        column = torch.arange(8).expand(8, 8)
        inside = torch.where(left, column < 4, column >= 4)
        sure = torch.where(inside, 9.0, -9.0)
        doubtful = torch.where(inside & (torch.arange(8)[:, None] < 4), 0.5, -9.0)
        logits = torch.stack([sure, doubtful, torch.full_like(sure, -9.0)], dim=1)
        quality = torch.where(left[:, 0, 0], 0.95, 0.9)
        return logits, torch.stack([quality, quality, torch.ones_like(quality)], dim=1)


def test_everything_is_found_once_best_first() -> None:
    sam = Segmenter()
    found = automatic_masks(sam, torch.zeros(3, 8, 8), side=4, batch_size=3)
    assert sam.embedded == 1
    assert found.masks.shape == (2, 8, 8)
    assert found.masks[0, :, :4].all()
    assert not found.masks[0, :, 4:].any()
    assert torch.equal(found.masks[1], ~found.masks[0])
    assert found.iou.tolist() == pytest.approx([0.95, 0.9])
    assert found.stability.tolist() == [1.0, 1.0]
    assert len(automatic_masks(sam, torch.zeros(3, 8, 8), side=4, least_iou=0.92).masks) == 1
    assert len(automatic_masks(sam, torch.zeros(3, 8, 8), side=4, least_iou=0.99).masks) == 0
    with pytest.raises(ValueError, match="least_stability must be"):
        automatic_masks(sam, torch.zeros(3, 8, 8), least_stability=1.5)


def test_the_grid_of_points_is_spread_evenly() -> None:
    assert torch.equal(point_grid(8, 8, 8), torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)).flip(1))
    grid = point_grid(2, 8, 4)
    assert grid.tolist() == [[0.5, 1.5], [2.5, 1.5], [0.5, 5.5], [2.5, 5.5]]
