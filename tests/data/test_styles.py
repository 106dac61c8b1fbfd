"""Styles and an object to adapt to: exact functions, captions with a word of their own, and names."""

import pytest
import torch

from flowlib.data import Scenes, load, styles


def test_styles_are_exact_functions_of_scenes() -> None:
    batch = Scenes().batch(torch.arange(20))
    x, masks = batch["x"], batch["masks"]
    made = {style: load(f"scenes-{style}") for style in styles.STYLES}
    for data in made.values():
        assert list(data.captions or ()) == [f"sks {text}" for text in batch["short"]]
        assert bool((data.images.abs() <= 1).all())
    assert torch.equal(styles.inverted(made["inverted"].images), x)
    stripes = made["striped"].images
    rows = torch.arange(16) // 2 % 2 == 1
    assert torch.equal(stripes[:, :, ~rows], x[:, :, ~rows])
    assert torch.allclose(stripes[:, :, rows] + 1, (x[:, :, rows] + 1) / 2)
    lines = made["outlined"].images
    changed = (lines != x).any(1)
    inside = masks.any(1)
    assert not bool((changed & inside).any())
    assert bool((lines.amax(1)[changed] == -1).all())
    for i, j, k in inside.nonzero().tolist():
        near = lines[i, :, max(j - 1, 0) : j + 2, max(k - 1, 0) : k + 2].amax(0)
        assert bool(((near == -1) | inside[i, max(j - 1, 0) : j + 2, max(k - 1, 0) : k + 2]).all())


def test_the_object_is_drawn_in_its_colour_and_is_another_in_each_split() -> None:
    train, test = load("scenes-glyph"), load("scenes-glyph", "test")
    assert (len(train), len(test)) == (20, 100)
    assert not any(torch.equal(a, b) for a in train.images for b in test.images)
    for image, text in zip(train.images, train.captions or (), strict=True):
        colour = text.split()[1]
        ink = torch.tensor(styles.INKS[styles.COLOURS.index(colour)]).mul(255).round().div(127.5).sub(1)
        drawn = ((image - ink[:, None, None]).abs() < 0.01).all(0)  # some colours lie between two of 8 bits
        paper = image[:, ~drawn]
        assert text.split()[-1] == "sks"
        assert 15 <= int(drawn.sum()) <= 50
        assert int(paper.unique(dim=1).shape[1]) == 1
    assert torch.equal(styles.glyphs(5).images, train.images[:5])
    assert styles.glyphs(2, size=32).images.shape == (2, 3, 32, 32)


def test_wrong_values_are_named() -> None:
    for call, says in (
        (lambda: styles.styled("cubist", 2), "style must be one of inverted, striped, outlined"),
        (lambda: styles.styled("inverted", 0), "count must be"),
        (lambda: styles.glyphs(2, "valid"), "split must be one of train, test"),
        (lambda: styles.glyphs(2, size=20), "size must be a multiple of 16"),
    ):
        with pytest.raises(ValueError, match=says):
            call()
