"""A flow as an ONNX graph: it computes what torch does, for any batch, and what cannot be exported is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flowlib.cli import main
from flowlib.recipes import change, find_recipe
from flowlib.runs import Run, export_onnx, graph, load_pretrained, load_run, train

GLIDE = {"net_args": {"channels": (8, 16), "attention": (1,), "patch": 2, "dim": 32}, "text_width": 16, "text_depth": 1}
TINY = {"steps": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    for name in ("digits", "moons", "gan"):
        small = {"channels": 8} if name == "gan" else {}
        train(change(find_recipe(name), **TINY, **small, data="moons" if name == "moons" else "digits"), folder / name,
              pictures=False, progress=False)  # fmt: skip
    return folder


def test_what_is_no_flow_with_labels_is_refused(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(runs / "gan"), "--onnx", str(tmp_path / "gan.onnx")]) == 2
    assert "a run of 'gan' cannot be exported" in capsys.readouterr().err
    assert main(["export", str(runs / "digits"), "--onnx", str(tmp_path / "digits.pt")]) == 2
    assert "--onnx must be a file that ends in .onnx" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (
            {"net": "mixture", "predicts": "velocity", "measure": None, "net_args": {"values": (0, 16)}},
            "error function",
        ),
        ({"recall": 0.5, "stable_until": 0.0, "predicts": "v", "measure": None}, "looks up training data"),
    ],
)
def test_networks_that_no_graph_can_hold_are_refused(settings: dict[str, Any], why: str, tmp_path: Path) -> None:
    small = {"channels": (8,), "depth": 1, "dim": 8} | settings.get("net_args", {})
    run = train(change(find_recipe("digits"), **TINY, **settings | {"net_args": small}), tmp_path / "run",
                pictures=False, progress=False)  # fmt: skip
    with pytest.raises(ValueError, match=f"'digits' cannot be exported: .*{why}"):
        export_onnx(run, tmp_path / "refused.onnx")
    assert not list(tmp_path.glob("*.onnx*"))


@pytest.mark.parametrize("name", ["digits", "moons"])
def test_the_graph_computes_what_the_network_does(runs: Path, tmp_path: Path, name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra 'onnx'")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: the extra 'onnx'")
    run, path = load_run(runs / name, "cpu"), tmp_path / f"{name}.onnx"
    assert export_onnx(run, path)[path] <= graph.CLOSE
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x, t = torch.randn(7, *run.shape, generator=torch.Generator().manual_seed(0)), torch.linspace(0.1, 0.9, 7)
    y = torch.arange(7) % (run.field.null + 1)
    (found,) = session.run(None, {"x": x.numpy(), "t": t.numpy(), "y": y.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), run.field.predict(x, t, y), rtol=0, atol=graph.CLOSE)
    said = session.get_modelmeta().custom_metadata_map
    assert said["predicts"] == run.field.predicts
    assert json.loads(said["null"]) == run.field.null


def test_a_graph_that_differs_is_refused(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} is not installed: the extra 'onnx'")
    monkeypatch.setattr(graph, "CLOSE", -1.0)
    with pytest.raises(ValueError, match="differs from torch by"):
        export_onnx(load_run(runs / "moons", "cpu"), tmp_path / "moons.onnx")


def sessions(run: Run, folder: Path) -> dict[str, Any]:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra 'onnx'")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: the extra 'onnx'")
    found = export_onnx(run, folder / "run.onnx")
    assert max(found.values()) <= graph.CLOSE
    return {path.stem: onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in found}


def test_a_painter_of_captions_takes_tokens_and_says_how_they_are_made(tmp_path: Path) -> None:
    recipe = find_recipe("scenes-text")
    recipe = replace(recipe, system=replace(recipe.system, **GLIDE))
    train(change(recipe, **TINY), tmp_path / "painter", pictures=False, progress=False)
    run = load_run(tmp_path / "painter", "cpu")
    (session,) = sessions(run, tmp_path).values()
    tokenizer = run.field.net.tokenizer
    y = tokenizer(["a large red seven", "", "a two above a one", "a one", "grey"])
    x, t = torch.randn(5, *run.shape, generator=torch.Generator().manual_seed(0)), torch.linspace(0.1, 0.9, 5)
    (found,) = session.run(None, {"x": x.numpy(), "t": t.numpy(), "y": y.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), run.field.predict(x, t, y), rtol=0, atol=graph.CLOSE)
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["null"]) == tokenizer([""])[0].tolist()
    described = json.loads(said["tokenizer"])
    assert described["merges"] == tokenizer.bpe.to_dict()["merges"]
    assert (described["length"], described["end"]) == (tokenizer.length, tokenizer.end)


@pytest.mark.full
def test_sam_is_two_graphs_for_any_clicks(tmp_path: Path) -> None:
    run = load_pretrained("sam", "cpu")
    made = sessions(run, tmp_path)
    images = torch.rand(2, *run.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    (embedding,) = made["run-image"].run(None, {"x": images.numpy()})
    points, labels = torch.tensor([[[3.0, 4.0], [9.0, 9.0]]] * 3), torch.tensor([[1, 0], [1, 1], [0, -1]])
    given = {"embedding": embedding[:1], "points": points.numpy(), "labels": labels.numpy()}
    logits, iou = (torch.from_numpy(part) for part in made["run-masks"].run(None, given))
    for several, which in ((False, slice(0, 1)), (True, slice(1, 4))):
        expected = run.module(images[:1], points, labels, several=several)
        for found, true in zip((logits[:, which], iou[:, which]), expected, strict=True):
            torch.testing.assert_close(found, true, rtol=0, atol=graph.CLOSE)
