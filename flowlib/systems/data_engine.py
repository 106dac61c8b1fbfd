"""SAM's data engine: the model labels what it is sure of, a person the rest, and the model learns from both.

Kirillov et al. 2023, section 4: first a person labels all, then what the model leaves open, then nothing any more. The
person here is simulated: they see which regions of an image no proposed mask covers, and draw these exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowlib.checks import check_number
from flowlib.data import Dataset
from flowlib.systems.automatic_masks import automatic_masks
from flowlib.systems.mask_losses import iou_of
from flowlib.systems.regions import Regions, regions_of


@dataclass(frozen=True)
class Labels:
    """Masks that images were labelled with.

    Attributes:
        regions: (B, K, H, W) bool, empty ones where an image has fewer than K.
        proposed: how many the model made.
        drawn: how many a person drew.
        wanted: how many regions there are to label.
        iou: the mean IoU of the model's masks with the nearest true region; NaN if it made none.
    """

    regions: Tensor
    proposed: int
    drawn: int
    wanted: int
    iou: float

    @property
    def by_person(self) -> float:
        """The share of the regions that a person had to draw."""
        return self.drawn / max(1, self.wanted)


def by_hand(batch: Mapping[str, Any]) -> Labels:
    """All regions of scenes, each drawn by a person."""
    masks, valid = regions_of(batch)
    count = int(valid.sum())
    return Labels(masks & valid[..., None, None], 0, count, count, float("nan"))


def by_model(
    sam: Any, batch: Mapping[str, Any], person: bool = True, covered: float = 0.5, most: int = 12, **limits: Any
) -> Labels:
    """The masks that a model is sure of, and with a person the regions that none of them covers.

    Args:
        sam: a `SAM`.
        batch: of scenes.
        person: whether somebody draws what is missing.
        covered: the IoU, in [0, 1], with a proposed mask from which on a region is not drawn again.
        most: masks of an image that are proposed, those of the best rating.
        limits: of `automatic_masks`.
    """
    check_number("covered", covered, 0, 1)
    regions: Regions = regions_of(batch)
    rows: list[Tensor] = []
    nearest: list[Tensor] = []
    proposed = drawn = 0
    for image, masks, valid in zip(batch["x"], *regions, strict=True):
        found, truth = automatic_masks(sam, image, **limits).masks[:most], masks[valid]
        overlap = iou_of(truth[:, None], found[None])  # (regions, masks)
        missing = truth[~(overlap >= covered).any(1)] if person else truth[:0]
        rows.append(torch.cat([found, missing]))
        nearest += [overlap.amax(0)] if overlap.numel() else []
        proposed, drawn = proposed + len(found), drawn + len(missing)
    filled = torch.zeros(len(rows), max(1, *map(len, rows)), *batch["x"].shape[2:], dtype=torch.bool)
    for i, row in enumerate(rows):
        filled[i, : len(row)] = row
    iou = float(torch.cat(nearest).mean()) if nearest else float("nan")
    return Labels(filled, proposed, drawn, int(regions.valid.sum()), iou)


def labelled(images: Tensor, labels: Labels, name: str = "labelled") -> Dataset:
    """Images (B, C, H, W) with what they were labelled with, as data that a SAM learns from.

    An image without any label is left out: nothing can be asked of it, and a batch of such images has no loss.

    Raises:
        ValueError: if no image has a label.
    """
    some = labels.regions.flatten(1).any(1)
    if not some.any():
        raise ValueError(f"labels must hold a region of some image, got none of {len(images)} images")
    return Dataset(images[some], name=name, levels=256, more={"regions": labels.regions[some]})


def joined(sets: list[Dataset], name: str = "labelled") -> Dataset:
    """Labelled sets as one; images of which fewer regions are known get empty ones."""
    parts = [one.batch(torch.arange(len(one)))["regions"] for one in sets]
    most = max(part.shape[1] for part in parts)
    wide = [torch.cat([part, part.new_zeros(len(part), most - part.shape[1], *part.shape[2:])], 1) for part in parts]
    images = torch.cat([one.images for one in sets])
    return Dataset(images, name=name, levels=256, more={"regions": torch.cat(wide)})
