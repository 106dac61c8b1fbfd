"""The demo, with an eighth of its training: digits that a classifier of real ones can read, and pictures of them."""

from PIL import Image

from flowlib.cli import main
from flowlib.training import read_metrics


def test_the_demo_draws_digits_that_can_be_read_and_says_where_they_are(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--steps", "60", "--seed", "1"]) == 0
    output = capsys.readouterr().out
    for name in ("digits.png", "digits.gif", "loss.png"):
        assert f"runs/demo/{name}" in output
    with Image.open("runs/demo/digits.gif") as image:
        assert image.n_frames == 25
    with Image.open("runs/demo/digits.png") as image:
        assert min(image.size) > 400
    assert "flowlib sample runs/demo --label 3" in output
    assert "mnist" in output
    read = int(output.split("reads ")[1].split("%")[0])
    assert read >= 80  # 10 would be guessing; the whole recipe reaches 99
    metrics = read_metrics(tmp_path / "runs" / "demo" / "metrics.jsonl")
    assert metrics[-1]["loss"] < 0.5 * metrics[0]["loss"]


def test_the_demo_replaces_no_other_recipes_run(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "moons", "--out", str(run), "--steps", "2", "--set", "net.width=8", "--no-pictures"]) == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["demo", "--out", str(run), "--steps", "1"]) == 2
    assert "holds a run of 'moons', which the demo would replace" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
