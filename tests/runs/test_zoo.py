"""The zoo: what is packed is loaded to half precision, what is damaged is named, and shipped figures are true."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from flowlib.cli import main
from flowlib.data import mnist
from flowlib.recipes import RECIPES, change, find_recipe
from flowlib.runs import RunError, evaluate_run, load_pretrained, load_run, train, zoo
from flowlib.training import read_metrics
from flowlib.weights import FOLDER, compress, decompress, describe_weights, read_weights, weights_file

TINY = {"steps": 3, "batch_size": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo") / "run"
    train(change(find_recipe("judge"), **TINY), folder, pictures=False, progress=False)
    return folder


@pytest.fixture
def shelf(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo that holds the tiny run, as if it were what the recipe says."""
    monkeypatch.setitem(RECIPES._all, "judge", change(find_recipe("judge"), **TINY))  # type: ignore[attr-defined]
    zoo.pack(run, [{"scenes": "none", "digit": 0.5}], tmp_path)
    return tmp_path


def test_a_packed_run_is_the_run_in_half_precision(run: Path, shelf: Path) -> None:
    record, weights = zoo.entry("zoo:judge", shelf)
    own = load_run(run).module.state_dict()
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[name], own[name].half().float()) for name in own)
    assert record.recipe.training.steps == 3
    described = describe_weights("judge", shelf)
    assert described["command"] == "flowlib train judge"
    assert described["sha256"] == zoo.digest("zoo:judge", shelf)
    assert described["figures"] == [{"scenes": "none", "digit": 0.5}]
    (row,) = zoo.rows(shelf)
    assert (row["name"], row["system"], row["data"]) == ("zoo:judge", "judge", "scenes")


def test_seconds_are_those_of_all_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = change(find_recipe("dalle"), **TINY, parts={}, **{"first_stage.centres": 20, "first_stage.steps": 1})
    monkeypatch.setitem(RECIPES._all, "dalle", recipe)  # type: ignore[attr-defined]
    folder = tmp_path / "run"
    train(recipe, folder, pictures=False, progress=False)
    for stage, seconds in (("", 100.0), ("dvae", 40.0)):
        path = folder / stage / "metrics.jsonl"
        path.write_text(json.dumps(read_metrics(path)[-1] | {"seconds": seconds}) + "\n")
    zoo.pack(folder, [], tmp_path)
    assert describe_weights("dalle", tmp_path)["seconds"] == 140


def test_what_a_part_has_is_not_stored_twice(
    shelf: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = read_weights("judge", shelf)
    whole = decompress(weights_file("judge", shelf).read_bytes())
    names = list(weights)
    theirs = {**weights, names[0]: weights[names[0]] + 1, names[1]: weights[names[1]].float(), "other": torch.ones(2)}
    content = save(theirs)
    weights_file("base", shelf).write_bytes(compress(content))
    (shelf / "base.json").write_text(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}))
    monkeypatch.setattr(zoo, "parts_of", lambda system: {"base": "zoo:base"})
    digest = zoo.digest("judge", shelf)

    zoo.pack(run, [], shelf)
    shared = describe_weights("judge", shelf)["shared"]
    assert {base: sorted(keys) for base, keys in shared.items()} == {"base": sorted(names[2:])}
    assert set(load(decompress(weights_file("judge", shelf).read_bytes()))) == set(names[:2])
    assert zoo.digest("judge", shelf) == digest == hashlib.sha256(whole).hexdigest()
    again = read_weights("judge", shelf)
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in names)

    content = save(theirs | {names[2]: weights[names[2]] + 1})  # a base that was trained again
    weights_file("base", shelf).write_bytes(compress(content))
    (shelf / "base.json").write_text(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}))
    with pytest.raises(ValueError, match="tensors in base, are damaged or were exchanged"):
        read_weights("judge", shelf)
    del theirs[names[2]]
    content = save(theirs)
    weights_file("base", shelf).write_bytes(compress(content))
    (shelf / "base.json").write_text(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}))
    with pytest.raises(ValueError, match="are damaged or were exchanged"):
        read_weights("judge", shelf)
    weights_file("base", shelf).unlink()
    with pytest.raises(FileNotFoundError, match="weights 'base' are missing"):
        read_weights("judge", shelf)


def test_what_is_not_the_recipe_is_not_packed(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not what `flowlib train judge` makes"):
        zoo.pack(run, [], tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_too_large_is_not_packed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES._all, "judge", change(find_recipe("judge"), **TINY))  # type: ignore[attr-defined]
    monkeypatch.setattr(zoo, "LIMIT", 1000)
    with pytest.raises(ValueError, match="MiB; the zoo takes up to"):
        zoo.pack(run, [], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_or_missing_file_is_named(shelf: Path) -> None:
    with pytest.raises(RunError, match=r"the zoo has no 'clip', it has judge$"):
        zoo.entry("zoo:clip", shelf)
    with pytest.raises(RunError, match="it has judge; `flowlib train mnist` makes one, whose folder stands for it"):
        zoo.entry("zoo:mnist", shelf)
    weights = weights_file("judge", shelf)
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RunError, match="are damaged or were exchanged"):
        zoo.entry("zoo:judge", shelf)
    weights.unlink()
    with pytest.raises(RunError, match="are missing"):
        zoo.entry("zoo:judge", shelf)
    weights.write_bytes(content)
    described = json.loads((shelf / "judge.json").read_text())
    described["run"]["recipe"]["system"]["colour"] = "red"
    (shelf / "judge.json").write_text(json.dumps(described))
    with pytest.raises(RunError, match=r"judge\.json is damaged, or of another version of flowlib"):
        zoo.entry("zoo:judge", shelf)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": None}, r"judge\.json is damaged"),
        ({"shared": 3}, r"judge\.json is damaged"),
        ({"run": 3}, r"judge\.json is damaged"),
        ({"steps": None}, r"judge\.json is damaged: it says no steps"),
        ({"figures": 3}, r"judge\.json is damaged: it says no figures"),
    ],
)
def test_a_description_that_was_edited_is_named(shelf: Path, changes: dict[str, object], message: str) -> None:
    file = shelf / "judge.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        zoo.rows(shelf)
    file.write_text("{")
    with pytest.raises(ValueError, match=r"judge\.json is damaged"):
        zoo.rows(shelf)


def test_the_command_line_lists_and_describes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo"]) == 0
    listed = capsys.readouterr().out
    assert all(f"zoo:{name}" in listed for name in zoo.names())
    assert main(["zoo", "zoo:judge"]) == 0
    assert "flowlib train judge" in capsys.readouterr().out
    assert main(["zoo", "unicorn"]) == 2
    assert "the zoo has no 'unicorn'" in capsys.readouterr().err
    assert main(["zoo", "judge", "--pack", "nowhere"]) == 2
    assert main(["zoo", "--pack", "nowhere"]) == 2
    assert "nowhere holds no run" in capsys.readouterr().err
    assert main(["sample", "zoo:judge"]) == 2
    assert "does not sample" in capsys.readouterr().err


def test_the_zoo_is_small() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file() and path.suffix not in (".py", ".json")]
    assert set(files) == {weights_file(path.stem) for path in FOLDER.glob("*.json")}
    sizes = [path.stat().st_size for path in files]
    assert max(sizes) <= 3 * 2**20
    assert sum(sizes) <= 40 * 2**20


@pytest.mark.parametrize("name", zoo.names())
def test_a_shipped_run_is_what_its_recipe_says(name: str) -> None:
    run = load_pretrained(name)
    assert run.recipe == find_recipe(name)
    assert run.step == run.recipe.training.steps
    assert describe_weights(name)["command"] == f"flowlib train {name}"
    assert shutil.which("flowlib") is None or run.device.type in ("cpu", "cuda")


def needs(name: str) -> Any:
    """A run of the zoo, which is measured only where its data are."""
    absent = "mnist" in describe_weights(name)["run"]["recipe"]["data"] and mnist.find() is None
    return pytest.param(name, marks=pytest.mark.skipif(absent, reason="MNIST is not here: FLOWLIB_DATA"))


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "options", "row", "figure", "within"),
    [
        ("scenes-text", {"scales": (3.0,)}, "w = 3", "one", 0.06),
        ("scenes-text", {"scales": (3.0,)}, "w = 3", "two", 0.12),
        ("scenes-inpainter", {"scales": (3.0,)}, "w = 3", "colour", 0.06),
        ("scenes-upsampler", {"scales": (1.0,)}, "w = 1", "psnr", 0.5),
        ("scenes", {}, "no guide", "2 found", 0.1),
        ("scenes-secondary", {}, "no guide", "2 found", 0.1),
        ("captioner", {}, "written, top 1", "all", 0.06),
        ("captioner-short", {}, "written, top 1", "all", 0.04),
        ("captioner-descriptive", {}, "written, top 1", "complete", 0.1),
        ("recaption", {"samples": 12}, "short, rewritten", "digit", 0.25),
        ("unclip-prior", {"scales": (2.0,)}, "w = 2", "picture", 0.01),
        ("unclip", {"scales": (3.0,)}, "diffusion, w = 3", "all", 0.07),
        ("dalle", {"candidates": (8,), "likelihood": 1}, "best of 8", "all", 0.1),
        ("dalle", {"candidates": (1,), "likelihood": 1}, "restored", "all", 0.04),
        ("control-edges", {"strengths": (1.0,), "samples": 64}, "strength 1", "edge F1", 0.04),
        ("control-mask", {"strengths": (1.0,), "samples": 64}, "strength 1", "mask IoU", 0.04),
        ("control-keypoints", {"strengths": (1.0,), "samples": 64}, "strength 1", "key points", 0.04),
        ("sam", {"everything": 2}, "three points", "mIoU", 0.03),
        pytest.param(
            "mnist-hour", {"scales": (1.0,), "steps": 12}, "w = 1", "accuracy", 0.03, marks=needs("mnist-hour").marks
        ),
        ("lora-striped", {"samples": 100}, "adapted, w = 3", "style", 0.1),
        ("lora-glyph", {"samples": 100}, "adapted, w = 3", "style", 0.1),
    ],
)
def test_shipped_figures_are_measured_again_on_fewer_samples(
    name: str, options: dict[str, Any], row: str, figure: str, within: float
) -> None:
    def row_of(rows: Any) -> Any:
        (found,) = [one for one in rows if row in one.values()]
        return found

    measured = row_of(evaluate_run(load_pretrained(name), **{"samples": 200, **options}))
    assert measured[figure] == pytest.approx(row_of(describe_weights(name)["figures"])[figure], abs=within)


@pytest.mark.parametrize("name", [needs(name) for name in zoo.names() if name.startswith(("judge", "clip"))])
def test_shipped_figures_are_measured_again(name: str) -> None:
    for row, shipped in zip(evaluate_run(load_pretrained(name)), describe_weights(name)["figures"], strict=True):
        for figure, value in shipped.items():
            assert row[figure] == (value if isinstance(value, str) else pytest.approx(value, abs=0.005)), figure
