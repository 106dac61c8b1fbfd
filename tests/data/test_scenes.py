"""Scenes are a function of seed and index, are what they say they are, and share no digit between their splits."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flowlib.data import DataError, Scenes, layouts, load, scenes
from flowlib.data.annotations import boxes_of, edges_of, keypoints_of
from flowlib.data.counter import uniforms
from flowlib.data.glyphs import Glyphs
from flowlib.data.layouts import HELD_OUT, SEEN
from flowlib.text.captions import read_caption

MANY = torch.arange(2_000)


@pytest.fixture(scope="module", params=[16, 32])
def whole(request: pytest.FixtureRequest) -> dict:
    return Scenes(request.param).batch(MANY) | {"size": request.param}


def test_uniforms_are_uniform_independent_and_a_function_of_seed_and_index() -> None:
    draw = uniforms(0, np.arange(20_000), 8)
    assert draw.min() >= 0
    assert draw.max() < 1
    for moment, expected in ((1, 1 / 2), (2, 1 / 3), (3, 1 / 4)):
        assert np.abs((draw**moment).mean(0) - expected).max() < 6 * 0.3 / 20_000**0.5
    assert np.abs(np.corrcoef(draw.T) - np.eye(8)).max() < 6 / 20_000**0.5
    assert abs(np.corrcoef(draw[:-1, 0], draw[1:, 0])[0, 1]) < 6 / 20_000**0.5
    assert np.array_equal(uniforms(0, np.array([17, 3]), 8), draw[[17, 3]])
    assert np.array_equal(uniforms(0, np.array([17]), 3)[0], draw[17, :3])
    other = uniforms(1, np.arange(20_000), 8)
    assert abs(np.corrcoef(draw[:, 0], other[:, 0])[0, 1]) < 6 / 20_000**0.5
    shifted = np.corrcoef(draw[1:, 0], other[:-1, 0])[0, 1]  # seeds are no shifts of the index
    assert abs(shifted) < 6 / 20_000**0.5


def test_a_scene_is_a_function_of_seed_and_index() -> None:
    some = torch.tensor([5, 1_000_000_007, 5])
    found, alone = Scenes().batch(some), Scenes().batch(some[1:2])
    for name, column in found.items():
        if isinstance(column, list):
            assert column[0] == column[2]
            assert column[1] == alone[name][0]
        else:
            assert torch.equal(column[0].nan_to_num(-1.0), column[2].nan_to_num(-1.0))
            assert torch.equal(column[1].nan_to_num(-1.0), alone[name][0].nan_to_num(-1.0))
    assert not torch.equal(found["x"][0], found["x"][1])
    assert not torch.equal(Scenes(seed=1).batch(some)["x"][0], found["x"][0])


def test_columns_shapes_and_ranges(whole: dict) -> None:
    size, count = whole["size"], len(MANY)
    assert whole["x"].shape == (count, 3, size, size)
    assert whole["x"].dtype == torch.float32
    assert -1 <= float(whole["x"].min()) < -0.9
    assert 0.9 < float(whole["x"].max()) <= 1
    pixels = (whole["x"] + 1) * 127.5
    assert float((pixels - pixels.round()).abs().max()) < 1e-4
    assert whole["masks"].shape == (count, 2, size, size)
    assert whole["edges"].shape == (count, 1, size, size)
    assert whole["keypoints"].shape == (count, 2, 5, 2)
    spec = Scenes(size).spec
    assert set(spec.columns) == set(whole) - {"size"}
    words = {word for text in whole["caption"] for word in text.split()}
    assert words <= set(spec.words)
    assert max(len(text.split()) for text in whole["caption"]) <= spec.length - 1


def test_every_attribute_occurs_as_often_as_it_should(whole: dict) -> None:
    objects, count = whole["objects"], len(MANY)
    two = objects[:, 1, 0] >= 0
    assert abs(float(two.double().mean()) - 0.5) < 6 * 0.5 / count**0.5
    first = objects[:, 0]
    for column, kinds in ((0, 10), (1, 8)):
        shares = first[:, column].bincount(minlength=kinds) / count
        assert float((shares - 1 / kinds).abs().max()) < 0.04
    for column, kinds in ((2, 2), (3, 9)):
        assert len(first[:, column].unique()) == kinds
    assert len(whole["background"].unique()) == 3
    assert bool((objects[~two, 1] == -1).all())
    assert bool((objects[two, 0, 3] != objects[two, 1, 3]).all())


def test_splits_share_no_digit_and_compositions_are_held_out() -> None:
    for split in ("train", "test"):
        objects = Scenes(split=split).batch(MANY)["objects"]
        there = objects[objects[..., 0] >= 0]
        pairs = {(int(d), int(c)) for d, c in there[:, :2]}
        assert pairs <= set(SEEN)
        assert len(pairs) > 65
    composed = Scenes(split="compositions").batch(MANY)["objects"]
    assert {(int(d), int(c)) for d, c in composed[:, 0, :2]} == set(HELD_OUT)
    assert len({d for d, _ in HELD_OUT}) == len({c for _, c in HELD_OUT}) == len(HELD_OUT) == 8
    train, test = (Scenes(split=split)._glyphs.pixels for split in ("train", "test"))
    both = torch.cat([train, test]).flatten(1)
    assert len(both.unique(dim=0)) == len(train.unique(dim=0)) + len(test.unique(dim=0))
    assert torch.equal(Scenes(split="compositions")._glyphs.pixels, test)


def test_masks_are_what_is_seen_and_boxes_what_there_is(whole: dict) -> None:
    masks, objects, visible = whole["masks"], whole["objects"], whole["visible"]
    there = objects[..., 0] >= 0
    assert not bool((masks[:, 0] & masks[:, 1]).any())
    assert bool((masks.any((2, 3)) == there).all())
    assert bool((visible[there] > 0).all())
    assert bool((visible[~there] == 0).all())
    assert float((visible[there] < 0.8).double().mean()) < 0.02
    boxes = whole["boxes"][there]
    assert bool(whole["boxes"][~there].isnan().all())
    height, unit = boxes[:, 3] - boxes[:, 1], whole["size"] // 16
    expected = unit * torch.tensor([7.0, 10.0])[objects[..., 2][there]]
    assert bool((height <= expected).all())
    assert float((height == expected).double().mean()) > 0.8  # a faint end of a stroke is not in the mask
    assert float(height.min()) >= 6 * unit - unit
    tight = boxes_of(masks)[there]
    assert bool((tight[:, :2] >= boxes[:, :2]).all())
    assert bool((tight[:, 2:] <= boxes[:, 2:]).all())
    assert torch.equal(tight[visible[there] == 1], boxes[visible[there] == 1])


def test_a_mask_has_the_objects_colour_and_the_rest_the_backgrounds(whole: dict) -> None:
    x = (whole["x"] + 1) / 2
    for i in range(200):
        for k in (0, 1):
            mask = whole["masks"][i, k]
            if whole["objects"][i, k, 0] >= 0 and whole["visible"][i, k] == 1:
                colour = torch.tensor(scenes.INKS[int(whole["objects"][i, k, 1])])
                darkest = x[i][:, mask]
                paper = scenes.PAPERS[int(whole["background"][i])]
                mixed = (darkest - colour[:, None]).abs().amax(0)
                assert float(mixed.min()) < 0.08  # somewhere in the stroke it is pure, but for its jitter
                assert float((darkest.mean(1) - paper).abs().max()) > 0.1
        nothing = ~F.max_pool2d(whole["masks"][i].any(0).float()[None, None], 5, 1, 2).bool()[0, 0]
        assert float((x[i][:, nothing] - scenes.PAPERS[int(whole["background"][i])]).abs().mean()) < 0.05


def test_places_and_sizes_are_where_they_are_said_to_be(whole: dict) -> None:
    objects, there = whole["objects"], whole["objects"][..., 0] >= 0
    centre = whole["keypoints"][:, :, 0][there] / whole["size"] * 16
    place, large = objects[..., 3][there], objects[..., 2][there]
    for axis, which in ((1, place // 3), (0, place % 3)):
        low, high = ((which == step) for step in (0, 2))
        assert float(centre[low][:, axis].max()) < 7.5
        assert float(centre[high][:, axis].min()) > 8.5
        middle = centre[which == 1][:, axis]
        assert float(((middle >= 7) & (middle <= 9)).double().mean()) > 0.95  # a faint stroke is not in the box
    box = whole["boxes"][there]
    height = (box[:, 3] - box[:, 1]) / whole["size"] * 16
    assert float(height[large == 0].max()) <= 7
    assert float((height[large == 0] >= 6).double().mean()) > 0.99
    assert float((height[large == 1] >= 8.5).double().mean()) > 0.99


def test_no_digit_is_lost_between_pixels() -> None:
    """A one of MNIST may be less than a pixel wide: on whatever pixel it falls, it is seen."""
    pixels = torch.zeros(10, 1, 28, 28, dtype=torch.uint8)
    pixels[:, 0, 4:24, 14] = 255
    glyphs, corners = Glyphs(pixels, torch.arange(10)), np.stack(np.divmod(np.arange(81), 9), axis=1)
    for side in (6, 7):
        drawn = glyphs.draw(np.ones(81, int), np.zeros(81), corners, np.full(81, side), np.ones(81), 16)
        assert bool(((drawn >= 0.5).sum((1, 2)) >= side).all())


def test_what_is_in_front_is_painted_last_and_has_the_pixel(whole: dict) -> None:
    one = Scenes(whole["size"])
    strokes = one._strokes(whole["objects"].numpy(), uniforms(0, MANY.numpy(), scenes._CHANCES)) >= 0.8
    both, right, seen = strokes.all(1), 0, 0
    for i in both.any((1, 2)).nonzero()[:, 0].tolist():
        colours = torch.tensor(scenes.INKS)[whole["objects"][i, :, 1]]
        if float((colours[0] - colours[1]).norm()) > 0.6:
            pixels = (whole["x"][i, :, both[i]].T + 1) / 2
            owner = whole["masks"][i][:, both[i]].int().argmax(0)
            right += int(((pixels[:, None] - colours).norm(dim=2).argmin(1) == owner).sum())
            seen += len(owner)
    assert seen > 50
    assert right == seen


def test_every_place_leaves_room_to_move(whole: dict) -> None:
    corner, _ = layouts.squares(
        whole["objects"].numpy(), uniforms(0, MANY.numpy(), scenes._CHANCES)[:, 6:10], whole["size"]
    )
    places = whole["objects"][:, 0, 3]
    for place in range(9):
        for axis in (0, 1):
            for large in (0, 1):
                mine = (places == place) & (whole["objects"][:, 0, 2] == large)
                assert len(np.unique(corner[mine.numpy(), 0, axis])) == whole["size"] // 16 + 1


def test_captions_read_back_say_what_is_there(whole: dict) -> None:
    right, wrong, said = 0, 0, 0
    for i in range(1_000):
        things = [tuple(thing) for thing in whole["objects"][i].tolist() if thing[0] >= 0]
        told = read_caption(whole["caption"][i])
        assert told.background == int(whole["background"][i])
        assert [(t.digit, t.colour, t.size) for t in told.things] == [thing[:3] for thing in things]
        assert told.things[0].place == things[0][3]
        brief = read_caption(whole["short"][i])
        assert [(t.digit, t.colour) for t in brief.things] == [thing[:2] for thing in things]
        if len(things) == 2:
            (row, column), (other_row, other_column) = divmod(things[0][3], 3), divmod(things[1][3], 3)
            expected = (row > other_row) - (row < other_row) or 2 * ((column > other_column) - (column < other_column))
            assert {-1: "above", 1: "below", -2: "left of", 2: "right of"}[expected] == told.relation
        if not re.match(r"image|photo|untitled|my scene", whole["noisy"][i]):
            for thing, truth in zip(read_caption(whole["noisy"][i]).things, things, strict=False):
                for value, real in zip((thing.digit, thing.colour, thing.size), truth, strict=False):
                    said, right = said + (value is not None), right + (value == real)
                    wrong += value is not None and value != real
    assert right + wrong == said
    assert abs(wrong / said - 0.1) < 6 * 0.3 / said**0.5


def test_resampling_to_the_same_grid_is_the_identity_and_keeps_a_constant() -> None:
    pixels = torch.zeros(10, 1, 8, 8, dtype=torch.uint8)
    pixels[:, 0, 1:7, 2:6] = torch.randint(100, 256, (10, 6, 4), generator=torch.Generator().manual_seed(0)).byte()
    glyphs = Glyphs(pixels, torch.arange(10))
    one = np.ones(10)
    drawn = glyphs.draw(np.arange(10), 0 * one, np.tile([3, 5], (10, 1)), 6 * one, one, 16)
    expected = pixels[:, 0, 1:7, 2:6] / pixels.amax((1, 2, 3))[:, None, None]
    assert torch.allclose(drawn[:, 3:9, 6:10], expected, atol=1e-6)
    drawn[:, 3:9, 6:10] = 0
    assert not bool(drawn.any())
    flat = Glyphs(pixels.clamp(max=1) * 255, torch.arange(10))
    doubled = flat.draw(np.arange(10), 0 * one, np.tile([2, 2], (10, 1)), 12 * one, one, 16)
    assert torch.allclose(doubled[:, 3:13, 5:11], torch.ones(10, 10, 6))
    assert torch.allclose(doubled[:, 2, 5:11], torch.full((10, 6), 0.75))  # linear towards the empty pixel outside


def test_annotations_of_a_square() -> None:
    masks = torch.zeros(1, 2, 6, 8, dtype=torch.bool)
    masks[0, 0, 1:4, 2:7] = True
    boxes = boxes_of(masks)
    assert boxes[0, 0].tolist() == [2, 1, 7, 4]
    assert bool(boxes[0, 1].isnan().all())
    assert keypoints_of(boxes)[0, 0].tolist() == [[4.5, 2.5], [2, 1], [7, 1], [7, 4], [2, 4]]
    edges = edges_of(masks)
    assert int(edges.sum()) == 15 - 3
    assert not bool(edges[0, 0, 2, 3:6].any())
    masks[0, 1, 1:4, 0:2] = True  # a neighbour's edge is an edge still
    assert bool(edges_of(masks)[0, 0, 1:4, 1:3].all())


def test_names_first_finite_and_device() -> None:
    assert set(scenes.SETS) < set(__import__("flowlib.data", fromlist=["_"]).available())
    assert load("scenes-32", "test").size == 32
    assert all(Scenes(*settings).name == name for name, settings in scenes.SETS.items() if settings[1] == "digits")
    some = Scenes(split="test").first(12)
    batch = Scenes(split="test").batch(torch.arange(12))
    for name, column in some.batch(torch.arange(12)).items():
        same = column == batch[name] if isinstance(column, list) else torch.equal(
            column.nan_to_num(-1.0), batch[name].nan_to_num(-1.0)
        )  # fmt: skip
        assert same, name
    assert some.spec == Scenes().spec
    assert len(Scenes(split="test").finite()) == scenes.STOCK["test"]
    assert Scenes().count is None
    assert Scenes().to("meta").batch(torch.arange(3))["x"].device.type == "meta"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"size": 28}, "size must be 16 or 32, got 28"),
        ({"source": "letters"}, "source must be one of digits, mnist; got 'letters'"),
        ({"split": "all"}, "split must be one of train, test, compositions; got 'all'"),
        ({"seed": -1}, "seed must be an integer >= 0"),
    ],
)
def test_bad_settings_are_named(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        Scenes(**settings)


@pytest.mark.parametrize("index", [torch.tensor([-1]), torch.tensor([0.5]), torch.tensor(3), [1, 2]])
def test_a_bad_index_is_named(index: object) -> None:
    with pytest.raises(ValueError, match="index must"):
        Scenes().batch(index)  # type: ignore[arg-type]


def test_scenes_without_mnist_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(split: str) -> None:
        raise DataError("no MNIST here")

    monkeypatch.setitem(scenes.SOURCES, "mnist", absent)
    scenes._bank.cache_clear()
    with pytest.raises(DataError, match="no MNIST here"):
        Scenes(source="mnist")
    scenes._bank.cache_clear()
