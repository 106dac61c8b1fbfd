"""Agreement with a control: closed cases of the three scores, and what is read off scenes themselves."""

import pytest
import torch

from flowlib.data import Scenes
from flowlib.data.annotations import boxes_of, edges_of, keypoints_of
from flowlib.metrics.agreement import agreement, correct_keypoints, edge_f1, mask_iou, read_masks


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    generator = torch.Generator().manual_seed(0)
    found, wanted = (torch.rand(20, 1, 8, 8, generator=generator) < 0.3 for _ in range(2))
    both = (found & wanted).sum((1, 2, 3)).double()
    precision, recall = both / found.sum((1, 2, 3)), both / wanted.sum((1, 2, 3))
    expected = 2 * precision * recall / (precision + recall)
    assert torch.allclose(edge_f1(found, wanted).double(), expected.nan_to_num(0), atol=1e-6)
    nothing = torch.zeros_like(found)
    assert edge_f1(wanted, wanted).tolist() == [1] * 20
    assert edge_f1(nothing, wanted).tolist() == [0] * 20
    assert edge_f1(nothing, nothing).tolist() == [1] * 20


def test_iou_of_squares_in_either_order() -> None:
    masks = torch.zeros(3, 2, 10, 10, dtype=torch.bool)
    masks[:, 0, 0:4, 0:4] = True
    masks[:2, 1, 6:8, 6:8] = True
    found = masks.clone()
    found[1, 0, 0:4, 0:4] = False
    found[1, 0, 2:6, 0:4] = True  # half of it beside where it should be: 8 / 24
    assert mask_iou(found, masks).tolist() == pytest.approx([1, (1 / 3 + 1) / 2, 1])
    assert mask_iou(found.flip(1), masks).tolist() == pytest.approx([1, (1 / 3 + 1) / 2, 1])
    assert mask_iou(torch.zeros_like(found), masks).tolist() == [0, 0, 0]
    assert bool(mask_iou(masks, torch.zeros_like(masks)).isnan().all())


def test_key_points_are_right_within_a_distance() -> None:
    nan = torch.nan
    wanted = keypoints_of(torch.tensor([[[2.0, 2.0, 6.0, 10.0], [8.0, 8.0, 12.0, 12.0]], [[0, 0, 4, 4], [nan] * 4]]))
    moved = wanted.clone()
    moved[0, 0] += torch.tensor([0.6, 0.8])
    assert correct_keypoints(moved, wanted, 1.0 + 1e-5).tolist() == [1, 1]
    assert correct_keypoints(moved, wanted, 0.9).tolist() == [0.5, 1]
    assert correct_keypoints(moved.flip(1), wanted, 0.9).tolist() == [0.5, 1]
    assert correct_keypoints(torch.full_like(wanted, nan), wanted, 9.0).tolist() == [0, 0]


def test_masks_are_read_off_scenes_by_what_the_judge_sees() -> None:
    batch = Scenes(split="test").batch(torch.arange(200))
    scores = agreement(batch["x"], batch["masks"], batch["keypoints"])
    assert min(scores.values()) > 0.94
    other = agreement(batch["x"].roll(1, 0), batch["masks"], batch["keypoints"])
    assert max(other.values()) < 0.2
    found = read_masks(batch["x"])
    assert not bool((found[:, 0] & found[:, 1]).any())
    assert found.any(1).shape == (200, 16, 16)
    assert float(edge_f1(edges_of(found), batch["edges"]).mean()) == pytest.approx(scores["edge F1"])
    assert boxes_of(found).shape == (200, 2, 4)
    same = batch["objects"][:, 0, 1] == batch["objects"][:, 1, 1]  # told apart by their places
    assert int(same.sum()) > 5
    assert float(mask_iou(found, batch["masks"])[same].mean()) > 0.85
    empty = torch.zeros(2, 3, 16, 16)
    assert not bool(read_masks(empty).any())
