"""CLIP: its loss is the definition's, it learns pairs, reads labels in words, and trains on two processes as on one."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.cli import main
from flowlib.data import Dataset, Scenes
from flowlib.data.pixels import read_picture
from flowlib.plotting import picture_grid, save_figure
from flowlib.recipes import change, find_recipe, from_dict, to_dict
from flowlib.runs import evaluate_run, load_run, train
from flowlib.systems.clip import CaptionedCLIP, CLIPSystem, contrastive_loss
from flowlib.systems.zero_shot import classify, retrieval, zero_shot
from flowlib.text.captions import COLOURS, DIGITS, SIZES
from flowlib.training import Turn, read_metrics

TINY = {
    "image_args": {"patch": 8, "width": 16, "depth": 1, "heads": 2},
    "width": 16, "depth": 1, "heads": 2, "embedding": 8,
}  # fmt: skip


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_loss_is_the_mean_of_both_cross_entropies() -> None:
    image, text = (torch.randn(7, 5, generator=seeded(i), dtype=torch.float64) for i in (0, 1))
    scale = torch.tensor(3.0, dtype=torch.float64)
    found, right = contrastive_loss(image, text, scale)
    total, own = 0.0, 0
    for i in range(7):
        cosine = [3 * float(F.cosine_similarity(image[i], text[j], dim=0)) for j in range(7)]
        total -= cosine[i] - math.log(sum(math.exp(c) for c in cosine))
        own += max(range(7), key=lambda j: cosine[j]) == i
        cosine = [3 * float(F.cosine_similarity(image[j], text[i], dim=0)) for j in range(7)]
        total -= cosine[i] - math.log(sum(math.exp(c) for c in cosine))
    assert float(found) == pytest.approx(total / 14, abs=1e-12)
    assert float(right) == pytest.approx(own / 7)
    longer = contrastive_loss(5 * image, 0.1 * text, scale)[0]
    assert torch.allclose(longer, found)


def test_the_loss_is_log_n_for_equal_features_and_0_for_perfect_ones() -> None:
    same = torch.ones(6, 4)
    assert float(contrastive_loss(same, same, torch.tensor(10.0))[0]) == pytest.approx(math.log(6), abs=1e-6)
    apart = torch.eye(6)
    loss, right = contrastive_loss(apart, apart, torch.tensor(100.0))
    assert float(loss) < 1e-6
    assert float(right) == 1
    with pytest.raises(ValueError, match="text must have the shape of image"):
        contrastive_loss(apart, apart[:3], torch.tensor(1.0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "run"
    recipe = change(find_recipe("clip-vit"), **TINY, steps=60, batch_size=64)
    train(recipe, folder, pictures=False, progress=False)
    return folder


def test_it_learns_and_is_loaded_with_its_tokenizer(run: Path) -> None:
    metrics = read_metrics(run / "metrics.jsonl")
    assert {"loss", "matched", "scale"} <= set(metrics[0])
    assert metrics[0]["loss"] == pytest.approx(math.log(64), abs=2)
    assert metrics[-1]["loss"] < 0.8 * metrics[0]["loss"]
    clip = load_run(run).module
    assert clip.tokenizer.decode(clip.tokenizer(["a red seven"])) == ["a red seven"]
    assert int((clip.tokenizer(["a red seven"]) != clip.tokenizer.padding).sum()) == 5
    texts = ["a red seven", "a blue two at the upper left, on grey"]
    both = clip.text_features(texts)
    assert both.shape == (2, 8)
    assert torch.allclose(both.norm(dim=1), torch.ones(2), atol=1e-6)
    full = F.normalize(clip.encode_text(clip.tokenizer(texts)), dim=1)  # with all the padding
    assert torch.allclose(both, full, atol=1e-6)
    assert torch.allclose(clip.text_features(texts[:1])[0], both[0], atol=1e-6)


def test_the_report_has_retrieval_and_zero_shot(run: Path) -> None:
    rows = evaluate_run(load_run(run))
    assert [row["task"] for row in rows] == [
        "caption among 256",
        *(f"zero-shot {n}" for n in ("digit", "colour", "size")),
    ]
    assert float(rows[0]["recall@1"]) > 1 / 256
    assert all(0 <= float(row["ensemble"]) <= 1 for row in rows[1:])


class Oracle:
    """Reads words: a text's features are which digit, colour and size it names, an image's those of its scene."""

    def __init__(self, objects: Tensor) -> None:
        self.objects = objects

    def image_features(self, images: Tensor, t: Tensor | None = None) -> Tensor:
        index = images[:, 0, 0, 0].long()
        digit, colour, size = self.objects[index, 0, :3].T
        parts = [F.one_hot(digit, 10), F.one_hot(colour, 8), F.one_hot(size, 2)]
        return F.normalize(torch.cat(parts, dim=1).float(), dim=1)

    def text_features(self, texts) -> Tensor:
        rows = [[float(name in text.split()) for name in (*DIGITS, *COLOURS, *SIZES)] for text in texts]
        return F.normalize(torch.tensor(rows) + 1e-6, dim=1)


def numbered() -> tuple[Dataset, Oracle]:
    """Scenes in the place of whose first pixel stands their number."""
    scenes = Scenes(split="test").first(300)
    scenes.images[:, 0, 0, 0] = torch.arange(300.0)
    return scenes, Oracle(scenes.more["objects"])


def test_zero_shot_reads_what_an_oracle_knows() -> None:
    scenes, oracle = numbered()
    for row in zero_shot(oracle, scenes):
        assert row["one prompt"] == row["ensemble"] == 1, row
    alone = scenes.more["objects"][:, 1, 0] < 0
    truth = scenes.more["objects"][alone, 0, 0]
    assert torch.equal(classify(oracle, scenes.images[alone], DIGITS, ["a red {}", "{}"]), truth)
    shifted = classify(oracle, scenes.images[alone], (*DIGITS[1:], DIGITS[0]), ["{}"])
    assert torch.equal((shifted + 1) % 10, truth)
    with pytest.raises(ValueError, match="names and templates, each with a "):
        classify(oracle, scenes.images, DIGITS, ["a digit"])


def test_retrieval_counts_equal_captions_and_is_chance_for_the_blind() -> None:
    scenes, oracle = numbered()
    few = Dataset(scenes.images[:200], captions=["a red seven"] * 200)
    assert retrieval(oracle, few, "caption")["recall@1"] == 1

    class Blind(Oracle):
        def image_features(self, images: Tensor, t: Tensor | None = None) -> Tensor:
            return F.normalize(torch.randn(len(images), 20, generator=seeded(0)), dim=1)

    row = retrieval(Blind(oracle.objects), scenes, "caption")
    assert row["task"] == "caption among 256"
    assert float(row["recall@1"]) < 0.05


def test_captions_are_drawn_anew_from_each_column_and_noise_follows_the_turn() -> None:
    system, data = CLIPSystem(**TINY, noised="linear"), Scenes()
    module = system.build(data.spec, {}, seeded(0))
    assert isinstance(module, CaptionedCLIP)
    task = system.stages(module, data, {})[0].task
    seen: list[str] = []
    read = module.read
    module.read = lambda texts: (seen.extend(texts), read(texts))[1]  # type: ignore[method-assign]
    losses = [task.loss(Turn(torch.arange(64), slice(None), seeded(i)))["loss"].item() for i in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    batch = data.batch(torch.arange(64))
    kinds = [
        next(kind for kind in ("caption", "short", "noisy") if text == batch[kind][i % 64])
        for i, text in enumerate(seen)
    ]
    assert {kinds.count(kind) > 30 for kind in ("caption", "short", "noisy")} == {True}


def test_match_says_which_text_fits(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_figure(picture_grid(Scenes().batch(torch.arange(1))["x"]), tmp_path / "seven.png")
    assert main(["match", str(run), str(tmp_path / "seven.png"), "a red seven", "a blue two"]) == 0
    lines = capsys.readouterr().out.strip().split("\n")
    assert len(lines) == 2
    shares = [float(line.split("%")[0]) for line in lines]
    assert shares[0] >= shares[1]
    assert sum(shares) == pytest.approx(100, abs=0.02)
    for arguments, says in (
        ([str(tmp_path / "none.png"), "a", "b"], "is no file"),
        ([str(tmp_path / "seven.png"), "a", " "], "texts must not be empty"),
        ([str(tmp_path / "seven.png"), "a"], "texts must be two or more, to choose from"),
        ([str(tmp_path / "seven.png"), "a", "x" * 100], "texts must have at most 30 tokens"),
    ):
        assert main(["match", str(run), *arguments]) == 2
        assert says in capsys.readouterr().err


def test_a_picture_is_read_in_the_shape_that_is_asked_for(tmp_path: Path) -> None:
    save_figure(picture_grid(Scenes().batch(torch.arange(1))["x"]), tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", (3, 16, 16)).shape == (3, 16, 16)
    grey = read_picture(tmp_path / "a.png", (1, 8, 8))
    assert grey.shape == (1, 8, 8)
    assert torch.allclose(grey[0], read_picture(tmp_path / "a.png", (3, 8, 8)).mean(0))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"encoder": "resnet"}, "encoder must be one of vit, conv"),
        ({"captions": ()}, "captions must name columns"),
        ({"noised": "fog"}, "noised must be one of"),
        ({"depth": 0}, "depth must be"),
    ],
)
def test_bad_settings_are_named(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CLIPSystem(**settings)


@pytest.mark.parametrize("name", ["clip-vit", "clip-conv", "clip-noised", "scenes-text", "scenes", "judge", "judge-32"])
def test_a_recipe_comes_back_from_json_as_it_was(name: str) -> None:
    recipe = find_recipe(name)
    assert from_dict(json.loads(json.dumps(to_dict(recipe)))) == recipe


def test_data_without_captions_are_refused() -> None:
    with pytest.raises(ValueError, match="CLIP needs square images and columns"):
        CLIPSystem().build(Dataset(torch.zeros(4, 3, 16, 16)).spec, {}, seeded(0))


TWO = """
import sys, torch, torch.distributed as dist
from flowlib.data import Scenes
from flowlib.systems.clip import CLIPSystem
from flowlib.training import Turn
from flowlib.training.devices import pick_device
from flowlib.training.distributed import join_world
settings = dict(image_args={"patch": 8, "width": 16, "depth": 1, "heads": 2}, width=16, depth=1, heads=2, embedding=8)
with join_world(pick_device("cpu")) as (world, place):
    torch.manual_seed(0)
    system, data = CLIPSystem(**settings), Scenes()
    module = system.build(data.spec, {}, torch.Generator())
    task = system.stages(module, data, {})[0].task
    part = slice(16 * world.rank, 16 * world.rank + 16) if world.size > 1 else slice(None)
    turn = Turn(torch.arange(32), part, torch.Generator().manual_seed(1), gather=world.gather)
    task.loss(turn)["loss"].backward()
    gradients = torch.cat([p.grad.flatten() for p in module.parameters()])
    if world.size > 1:
        dist.all_reduce(gradients)
        gradients /= world.size
    if world.leads:
        torch.save(gradients, sys.argv[1])
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="the loopback interface is called lo on Linux")
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    """The loss looks at the whole batch: the mean of both processes' gradients is that of one."""
    (tmp_path / "two.py").write_text(TWO)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    found = []
    for processes in (1, 2):
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes == 2 else []
        out = tmp_path / f"{processes}.pt"
        subprocess.run(
            [sys.executable, *launch, str(tmp_path / "two.py"), str(out)], env=environment, check=True, timeout=300
        )
        found.append(torch.load(out))
    assert float(found[0].abs().max()) > 1e-3
    assert torch.allclose(found[0], found[1], atol=1e-6)
