"""Reading scenes: what the network says becomes objects, objects become scores of captions."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from flowlib.data import Scenes
from flowlib.metrics.reader import SceneReader
from flowlib.metrics.scenes import compare, read_scenes, score_captions
from flowlib.systems.judge import accuracies, reading_loss, spoil
from flowlib.text.captions import Thing, read_caption

SOME = Scenes(split="test").batch(torch.arange(100))


class Oracle(SceneReader):
    """Says what is in `SOME`, which it is given in that order."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return truth_as_logits(SOME["objects"], SOME["background"])


def truth_as_logits(objects: Tensor, background: Tensor) -> dict[str, Tensor]:
    out = {"there": torch.full((len(objects), 9), -9.0), "background": torch.zeros(len(objects), 3)}
    out |= {name: torch.zeros(len(objects), 9, size) for name, size in (("digit", 10), ("colour", 8), ("size", 2))}
    for i, row in enumerate(objects.tolist()):
        out["background"][i, background[i]] = 9
        for digit, colour, size, place in row:
            if digit >= 0:
                out["there"][i, place] = 9
                out["digit"][i, place, digit] = out["colour"][i, place, colour] = out["size"][i, place, size] = 9
    return out


def test_what_the_network_says_is_read() -> None:
    found = read_scenes(SOME["x"], Oracle())
    for i in range(100):
        assert {tuple(row) for row in found.objects[i].tolist()} == {tuple(row) for row in SOME["objects"][i].tolist()}
    assert torch.equal(found.background, SOME["background"])


def test_true_captions_score_one_and_wrong_ones_do_not() -> None:
    for kind in ("caption", "short"):
        scores = score_captions(SOME["x"], SOME[kind], Oracle())
        assert set(scores.values()) == {1.0}
    assert set(scores) == {"digit", "colour", "count", "all"}
    wrong = [text.replace("red", "blue") if "red" in text else text for text in SOME["caption"]]
    red = sum("red" in text for text in SOME["caption"]) / 100
    scores = score_captions(SOME["x"], wrong, Oracle())
    assert red > 0
    assert scores["colour"] == scores["all"] == pytest.approx(1 - red)
    assert scores["digit"] == scores["place"] == 1


RED_SEVEN, BLUE_TWO = Thing(7, 0, 1, 0), Thing(2, 5, 0, 8)


@pytest.mark.parametrize(
    ("things", "text", "wrong"),
    [
        ([RED_SEVEN], "a large red seven at the upper left, on grey", set()),
        ([RED_SEVEN], "a small red seven", {"size"}),
        ([RED_SEVEN, BLUE_TWO], "a red seven", {"count"}),
        ([RED_SEVEN, BLUE_TWO], "a small blue two below a red seven", set()),
        ([RED_SEVEN, BLUE_TWO], "a blue two above a red seven", {"relation"}),
        ([RED_SEVEN, BLUE_TWO], "a blue seven and a red two", {"colour"}),
        ([RED_SEVEN], "a red seven above a blue two", {"count", "digit", "colour", "relation"}),
        ([], "a red seven", {"count", "digit", "colour"}),
        ([RED_SEVEN], "a seven on white", {"background"}),
    ],
)
def test_a_caption_is_compared_with_a_scene(things: list[Thing], text: str, wrong: set[str]) -> None:
    right = compare(things, 1, read_caption(text))
    assert {name for name, value in right.items() if not value} == (wrong | {"all"} if wrong else set())


def test_two_things_are_paired_as_is_best_for_the_image() -> None:
    twice = [replace(RED_SEVEN, place=8), RED_SEVEN]
    assert compare(twice, 0, read_caption("a red seven at the upper left above a red seven"))["all"]


def test_the_loss_is_least_where_the_truth_is_said_and_sees_each_attribute() -> None:
    right = reading_loss(truth_as_logits(SOME["objects"], SOME["background"]), SOME["objects"], SOME["background"])
    assert float(right["loss"]) < 0.01
    assert float(right["loss"]) == pytest.approx(float(sum(value for name, value in right.items() if name != "loss")))
    for name in ("there", "digit", "colour", "size", "background"):
        logits = truth_as_logits(SOME["objects"], SOME["background"])
        logits[name] = -logits[name]
        worse = reading_loss(logits, SOME["objects"], SOME["background"])
        assert float(worse[name]) > 2
        assert all(torch.equal(worse[other], right[other]) for other in right if other not in (name, "loss"))


def test_accuracies_are_those_of_what_is_seen() -> None:
    scores = accuracies(Oracle(), SOME["x"], SOME)
    assert set(scores.values()) == {1.0}

    class Blind(Oracle):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            logits = super().forward(x)
            return logits | {"there": torch.full_like(logits["there"], -1.0)}

    scores = accuracies(Blind(), SOME["x"], SOME)
    assert scores["place"] == scores["count"] == 0


def test_spoiled_images_are_blurred_or_noised_as_said() -> None:
    x, zero = SOME["x"][:4], torch.zeros(4)
    still = spoil(x, torch.ones_like(x), torch.tensor([0.0, 0.5, 0.0, 0.5]), torch.tensor([False, False, True, True]))
    assert torch.equal(still[0], x[0])
    assert torch.allclose(still[1], x[1] + 0.5)
    inner = sum(
        w * x[2, :, 1 + i : 15 + i, 1 + j : 15 + j]
        for i, row in zip((-1, 0, 1), ((1, 2, 1), (2, 4, 2), (1, 2, 1)), strict=True)
        for j, w in zip((-1, 0, 1), row, strict=True)
    )
    assert torch.allclose(still[2, :, 1:15, 1:15], inner / 16, atol=1e-6)
    flat = torch.full_like(x, 0.3)
    assert torch.allclose(spoil(flat, flat, zero, zero == 0), flat, atol=1e-6)


def test_shapes_of_the_network() -> None:
    for size in (16, 32):
        reader = SceneReader(size)
        x = torch.randn(3, 3, size, size)
        assert reader.features(x).shape == (3, 192)
        shapes = {name: tuple(value.shape) for name, value in reader(x).items()}
        assert shapes == {
            "there": (3, 9),
            "digit": (3, 9, 10),
            "colour": (3, 9, 8),
            "size": (3, 9, 2),
            "background": (3, 3),
        }
        with pytest.raises(ValueError, match="images must have shape"):
            reader(torch.randn(3, 1, size, size))
    with pytest.raises(ValueError, match="size must be 16 or 32, got 28"):
        SceneReader(28)
    assert isinstance(SceneReader(16), nn.Module)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="texts must be 100, one an image, got 1"):
        score_captions(SOME["x"], ["a red seven"], Oracle())
    with pytest.raises(ValueError, match="images"):
        read_scenes(torch.full((2, 3, 16, 16), torch.nan), Oracle())
    with pytest.raises(ValueError, match="a caption must name"):
        score_captions(SOME["x"][:1], ["nothing"], Oracle())
