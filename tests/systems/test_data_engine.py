"""The data engine: what a person has to draw, beside a model that knows everything, half of it, or nothing."""

import math

import pytest
import torch
from torch import Tensor, nn

from flowlib.data import Scenes
from flowlib.systems.data_engine import by_hand, by_model, joined, labelled
from flowlib.systems.mask_losses import iou_of
from flowlib.systems.regions import regions_of


class Oracle(nn.Module):
    """A SAM that answers each point with true regions of the image, of those that `knows` names; sure of all."""

    def __init__(self, batch: dict[str, Tensor], knows: tuple[int, ...]) -> None:
        super().__init__()
        self.images, self.regions, self.knows = batch["x"], regions_of(batch), knows

    def embed(self, images: Tensor) -> Tensor:
        return images

    def masks(self, embedding: Tensor, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        which = int((self.images == embedding).flatten(1).all(1).nonzero()[0])
        masks, valid = self.regions.masks[which], self.regions.valid[which]
        known = torch.stack([masks[i] & valid[i] for i in self.knows])
        logits = torch.where(known, 9.0, -9.0).expand(len(points), -1, -1, -1)
        return logits, torch.ones(len(points), len(self.knows))


@pytest.fixture(scope="module")
def batch() -> dict[str, Tensor]:
    return Scenes().batch(torch.arange(12))


def test_by_hand_everything_is_drawn(batch: dict[str, Tensor]) -> None:
    labels = by_hand(batch)
    assert labels.drawn == labels.wanted == int(regions_of(batch).valid.sum())
    assert (labels.proposed, labels.by_person) == (0, 1.0)
    assert math.isnan(labels.iou)
    assert torch.equal(labels.regions.flatten(2).any(2), regions_of(batch).valid)


def test_who_knows_everything_leaves_nothing_to_draw(batch: dict[str, Tensor]) -> None:
    labels = by_model(Oracle(batch, (0, 1, 2, 3, 4)), batch, side=2, most_overlap=1.0)
    assert labels.drawn == 0
    assert labels.iou == pytest.approx(1.0)


def test_a_person_draws_what_is_missing_and_nothing_else(batch: dict[str, Tensor]) -> None:
    """A model of strokes: hulls that no stroke covers are drawn, exactly; without a person they are missing."""
    model, regions = Oracle(batch, (0, 1)), regions_of(batch)
    labels = by_model(model, batch, covered=0.9, side=2)
    expected = 0
    for masks, valid, found in zip(*regions, labels.regions, strict=True):
        strokes = masks[:2][valid[:2]]
        overlap = iou_of(masks[valid][:, None], strokes[None]).amax(1)
        expected += int((overlap < 0.9).sum())
        near = iou_of(masks[valid][:, None], found[None]).amax(1)
        assert bool((near >= 0.9).all())
        assert bool((near[overlap < 0.9] == 1).all())
    assert labels.drawn == expected > 0
    assert labels.by_person == expected / labels.wanted
    alone = by_model(model, batch, person=False, covered=0.9, side=2)
    assert alone.drawn == 0
    assert alone.proposed == labels.proposed
    assert int(alone.regions.flatten(2).any(2).sum()) == alone.proposed


def test_no_more_masks_are_proposed_than_allowed(batch: dict[str, Tensor]) -> None:
    labels = by_model(Oracle(batch, (0, 1, 2, 3, 4)), batch, person=False, most=1, side=2, most_overlap=1.0)
    assert labels.proposed == len(batch["x"])
    assert labels.regions.shape[1] == 1


def test_labelled_sets_are_joined(batch: dict[str, Tensor]) -> None:
    first = labelled(batch["x"], by_hand(batch))
    second = labelled(batch["x"], by_model(Oracle(batch, (0,)), batch, person=False, most=1, side=2))
    both = joined([first, second])
    assert len(both) == 24
    found = both.batch(torch.arange(24))["regions"]
    assert found.shape[1] == 5
    assert torch.equal(found[:12], by_hand(batch).regions)
    assert torch.equal(regions_of({"regions": found}).valid[12:].sum(1), torch.ones(12).long())


def test_images_without_a_label_are_left_out(batch: dict[str, Tensor]) -> None:
    labels = by_hand(batch)
    labels.regions[:5] = False
    data = labelled(batch["x"], labels)
    assert len(data) == 7
    assert torch.equal(data.images, batch["x"][5:])
    assert regions_of(data.batch(torch.arange(7))).valid.any(1).all()
    labels.regions[:] = False
    with pytest.raises(ValueError, match="none of 12 images"):
        labelled(batch["x"], labels)
