"""Controls: of scenes by their definitions, as pictures and back, and from files of a user; Canny's detector."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from flowlib.data import Scenes, canny
from flowlib.data.canny import inner_edges
from flowlib.data.controls import CONTROLS, controls_of, pictures_of, read_control
from flowlib.metrics.agreement import edge_f1
from flowlib.plotting import png_of


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def batch() -> dict:
    return Scenes(split="test").batch(torch.arange(40))


def test_edges_and_masks_are_the_scenes_own_by_definition(batch: dict) -> None:
    edges = CONTROLS["edges"].of(batch)
    masks = batch["masks"]
    assert edges.shape == (40, 1, 16, 16)
    for i in range(40):
        expected = torch.zeros(16, 16)
        for mask in masks[i]:
            for row, column in mask.nonzero().tolist():
                around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
                inside = [0 <= r < 16 and 0 <= c < 16 and bool(mask[r, c]) for r, c in around]
                if not all(inside):
                    expected[row, column] = 1
        assert torch.equal(edges[i, 0], expected)
    assert torch.equal(CONTROLS["mask"].of(batch), masks.float())


def test_a_scribble_is_what_a_wide_pen_draws(batch: dict) -> None:
    for scribble, masks in zip(CONTROLS["scribble"].of(batch), batch["masks"], strict=True):
        expected = ndimage.binary_dilation(masks.any(0).numpy(), structure=np.ones((3, 3)))
        assert np.array_equal(scribble[0].numpy(), expected)


def test_key_points_mark_the_pixels_that_the_box_touches(batch: dict) -> None:
    images = CONTROLS["keypoints"].of(batch)
    for image, boxes in zip(images, batch["boxes"], strict=True):
        corners, centres = set(), set()
        for x0, y0, x1, y1 in [box for box in boxes.tolist() if box[0] == box[0]]:
            corners |= {(y, x) for y in (int(y0), int(y1) - 1) for x in (int(x0), int(x1) - 1)}
            centres.add((int((y0 + y1) / 2), int((x0 + x1) / 2)))
        assert {tuple(place) for place in image[0].nonzero().tolist()} == corners
        assert {tuple(place) for place in image[1].nonzero().tolist()} == centres - corners


@pytest.mark.parametrize("kind", CONTROLS)
@pytest.mark.parametrize("side", [16, 64])
def test_a_control_written_to_a_file_is_read_back(kind: str, side: int, batch: dict, tmp_path: Path) -> None:
    images = CONTROLS[kind].of(batch)
    pictures = pictures_of(images)
    assert torch.equal(controls_of(pictures, CONTROLS[kind].channels), images)
    for image, picture in list(zip(images, pictures, strict=True))[:8]:
        (tmp_path / "control.png").write_bytes(png_of(picture[None], side=side))
        assert torch.equal(read_control(kind, tmp_path / "control.png", (16, 16)), image)


def test_ink_on_paper_and_thin_lines_are_drawings_too(batch: dict, tmp_path: Path) -> None:
    edges = CONTROLS["edges"].of(batch)[:1]
    (tmp_path / "ink.png").write_bytes(png_of(-pictures_of(edges), side=64))
    assert torch.equal(read_control("edges", tmp_path / "ink.png", (16, 16)), edges[0])
    thin = -torch.ones(1, 1, 64, 64)
    thin[..., 10, 5:50] = 1  # a line of one pixel in cells of four
    (tmp_path / "thin.png").write_bytes(png_of(thin, side=64))
    expected = torch.zeros(1, 16, 16)
    expected[0, 2, 1:13] = 1
    assert torch.equal(read_control("edges", tmp_path / "thin.png", (16, 16)), expected)
    assert torch.equal(read_control("scribble", tmp_path / "thin.png", (16, 16)), expected)


def test_of_a_scene_cannys_edges_are_drawn(batch: dict, tmp_path: Path) -> None:
    found = []
    for x in batch["x"]:
        (tmp_path / "scene.png").write_bytes(png_of(x[None], side=32))
        found.append(read_control("edges", tmp_path / "scene.png", (16, 16)))
    f1 = edge_f1(torch.stack(found) > 0, batch["edges"])
    assert float(f1.mean()) > 0.75  # chance is 0.16
    with pytest.MonkeyPatch.context() as patch:  # Canny's own lie on both sides of a thin stroke
        patch.setattr(canny, "_beside", lambda y, x: (np.indices(y.shape), np.indices(y.shape)))
        outer = [torch.from_numpy(inner_edges(((x + 1) / 2).numpy()))[None] for x in batch["x"]]
    assert float(edge_f1(torch.stack(outer), batch["edges"]).mean()) < 0.5


def test_a_disc_has_one_edge_all_around_also_where_it_touches_the_border_and_noise_has_none() -> None:
    place = np.indices((41, 41)) - np.array([20, 12])[:, None, None]
    distance = np.hypot(*place)
    disc = 1 / (1 + np.exp(2 * (distance - 12)))  # a soft step at 12, which the left border touches
    noise = 0.005 * np.random.default_rng(0).standard_normal(disc.shape)
    edges = inner_edges((disc + noise)[None])
    assert np.abs(distance[edges] - 11.5).max() <= 1
    angles = np.arctan2(place[0][edges], place[1][edges])
    assert np.diff(np.sort(angles)).max() < 0.2
    assert edges.sum() < 100
    assert not inner_edges(noise[None]).any()


def test_a_colour_step_of_equal_brightness_is_an_edge_and_the_inner_side_is_the_rarer() -> None:
    image = np.full((3, 12, 12), 0.4)
    image[0, 4:8, 4:8], image[1, 4:8, 4:8] = 0.9, 0.0
    expected = np.zeros((12, 12), dtype=bool)
    expected[4:8, 4:8] = True
    expected[5:7, 5:7] = False
    found = inner_edges(image)
    assert not found[~ndimage.binary_dilation(expected)].any()
    assert (found & expected).sum() >= 8


@pytest.mark.parametrize(
    ("image", "name", "says"),
    [
        (
            torch.zeros(1, 1, 20, 16),
            "edges",
            r"the control edges=\S+ has 16 x 20 pixels, which is no multiple of 16 x 16",
        ),
        (torch.zeros(1, 1, 24, 24), "mask", "has 24 x 24 pixels, which is no multiple of 16 x 16"),
        (torch.zeros(1, 1, 8, 8), "mask", "has 8 x 8 pixels, which is no multiple"),
        (-torch.ones(1, 1, 16, 16), "mask", "is empty: draw a digit white, another one grey, on black"),
        (-torch.ones(1, 1, 16, 16), "edges", "is empty: draw edges white, on black"),
        (torch.ones(1, 1, 16, 16), "depth", "the kind of a control must be one of edges, mask, scribble, keypoints"),
    ],
)
def test_bad_controls_are_named(image: Tensor, name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png_of(image, side=1))
    with pytest.raises(ValueError, match=says):
        read_control(name, tmp_path / "x.png", (16, 16))


def test_an_image_of_another_shape_has_no_edges() -> None:
    with pytest.raises(ValueError, match="image must have shape"):
        inner_edges(np.zeros((4, 4)))
