"""The command line: what it prints, what it refuses and how, and that it never shows a traceback."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import flowlib
from flowlib import files
from flowlib.autoguidance import Autoguidance
from flowlib.cli import app, main
from flowlib.cli.options import RECIPE_NAMES, complete_recipe
from flowlib.plotting import format_table
from flowlib.recipes import RECIPES
from flowlib.runs import load_run

TINY = ["--steps", "2", "--no-pictures", "--set", "net.channels=[8]", "--set", "batch_size=8"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    assert main(["train", "digits", "--out", str(folder / "digits"), *TINY]) == 0
    assert main(["train", "moons", "--out", str(folder / "moons"), "--steps", "2", "--set", "net.width=8"]) == 0
    assert main(["train", "moons", "--out", str(folder / "free"), "--steps", "2", "--set", "guided=false"]) == 0
    small = ["--data", "digits", "--steps", "1", "--set", "channels=8", "--no-pictures"]
    assert main(["train", "vae", "--out", str(folder / "vae"), *small]) == 0
    return folder


def refused(capsys, *arguments):
    """The one line on standard error of a command that has to fail with status 2."""
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("flowlib: ")
    assert error.count("\n") == 1
    return error


def test_the_version_and_the_module(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"flowlib {flowlib.__version__}\n"
    result = subprocess.run([sys.executable, "-m", "flowlib", "--version"], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"flowlib {flowlib.__version__}\n", "")
    result = subprocess.run([sys.executable, "-m", "flowlib", "train", "nope"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("flowlib: recipe must be one of")


COMMANDS = ["demo", "train", "sample", "evaluate", "recipes", "data"]
COMMANDS += ["grade", "course", "course build", "course bank", "course new"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_explains_every_option(capsys, command):
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples:\n" in text
    assert f"  flowlib {command}" in text
    options = [line for line in text.splitlines() if line.startswith("  --")]
    assert all(len(line.split("  ")) > 2 or len(line) > 30 for line in options), options


def test_the_first_help_lists_the_commands_and_completion_is_on(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    commands = {"demo", "train", "sample", "evaluate", "export", "zoo", "start", "grade", "recipes", "data", "course"}
    for name in (*commands, "--install-completion"):
        assert f"  {name}" in text
    assert len(app.registered_commands) + len(app.registered_groups) == len(commands)


def test_recipes_are_listed_and_printed_in_full(capsys):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{name} " in listed for name in RECIPES)
    assert main(["recipes", "mnist"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "mnist"


def test_data_sets_are_listed_and_fetched(capsys):
    assert main(["data"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{name} " in listed for name in ("digits", "mnist", "moons"))
    assert main(["data", "fetch", "digits"]) == 0
    assert "digits needs no fetching" in capsys.readouterr().out
    assert "data must be one of" in refused(capsys, "data", "fetch", "cats")


@pytest.mark.parametrize("suffix", ["png", "gif", "npz", "pt"])
def test_samples_are_written_as_pictures_and_as_numbers(runs, tmp_path, capsys, suffix):
    out = tmp_path / "new" / f"s.{suffix}"
    options = ["--label", "3", "--label", "5", "--count", "6", "--scale", "2", "--steps", "2", "--out", str(out)]
    assert main(["sample", str(runs / "digits"), *options]) == 0
    assert capsys.readouterr().out == f"6 samples: {out}\n"
    if suffix == "npz":
        content = np.load(out)
        assert content["labels"].tolist() == [3, 3, 3, 5, 5, 5]
        assert content["samples"].shape == (6, 1, 8, 8)
    elif suffix == "pt":
        content = torch.load(out, weights_only=True)
        assert content["labels"].tolist() == [3, 3, 3, 5, 5, 5]
        assert content["samples"].dtype == torch.float32
    else:
        assert getattr(Image.open(out), "n_frames", 1) == (3 if suffix == "gif" else 1)


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A run on a folder of images whose labels have names."""
    folder = tmp_path_factory.mktemp("pets")
    for label, ground in (("cats", 0), ("dogs", 200)):
        (folder / "images" / label).mkdir(parents=True)
        for i in range(6):
            pixels = np.full((8, 8), ground + i, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / label / f"{i}.png")
    options = ["--data", str(folder / "images"), "--out", str(folder / "run"), *TINY]
    assert main(["train", "digits", *options]) == 0
    return folder / "run"


def test_a_label_is_named_or_numbered(pets, tmp_path, capsys):
    out = tmp_path / "s.npz"
    for given, expected in ((["dogs"], [1, 1]), (["dogs", "cats"], [1, 0]), (["0", "dogs"], [0, 1])):
        options = [word for label in given for word in ("--label", label)]
        assert main(["sample", str(pets), *options, "--count", "2", "--steps", "1", "--out", str(out)]) == 0
        assert np.load(out)["labels"].tolist() == expected
    error = refused(capsys, "sample", pets, "--label", "cows", "--out", tmp_path / "none.npz")
    assert error == "flowlib: label must be one of cats, dogs, or a number in 0 ... 1; got 'cows'\n"
    assert not (tmp_path / "none.npz").exists()


@pytest.mark.parametrize(("name", "count"), [("digits", 100), ("moons", 2000), ("free", 2000)])
def test_without_options_every_label_has_its_share(runs, tmp_path, name, count):
    out = tmp_path / "s.npz"
    assert main(["sample", str(runs / name), "--steps", "1", "--out", str(out)]) == 0
    content = np.load(out)
    assert len(content["samples"]) == count
    if name == "free":
        assert "labels" not in content
    else:
        assert set(np.bincount(content["labels"]).tolist()) == {count // (10 if name == "digits" else 2)}


def test_a_weaker_run_guides(runs, tmp_path):
    weak = tmp_path / "weak"
    assert main(["train", "moons", "--out", str(weak), "--steps", "1", "--set", "net.width=8"]) == 0
    drawn = {}
    for name, more in {
        "plain": [],
        "one": ["--weak", weak, "--scale", 1],
        "three": ["--weak", weak, "--scale", 3],
    }.items():
        out = tmp_path / f"{name}.pt"
        options = ["--count", "20", "--steps", "4", "--method", "euler", "--out", str(out), *map(str, more)]
        assert main(["sample", str(runs / "moons"), *options]) == 0
        drawn[name] = torch.load(out)["samples"]
    own, other, y = load_run(runs / "moons"), load_run(weak), torch.arange(20) // 10
    guided = own.sample(y, steps=4, method="euler", wrap=lambda field: Autoguidance(field, other.field, 3.0))
    assert torch.equal(drawn["one"], drawn["plain"])
    assert torch.equal(drawn["three"], guided)
    assert not torch.equal(drawn["three"], drawn["plain"])


def test_an_evaluation_is_a_table_and_a_file(runs, tmp_path, capsys):
    out = tmp_path / "table.json"
    options = ["--samples", "130", "--scale", "1", "--scale", "1.5", "--steps", "1", "--out", str(out)]
    assert main(["evaluate", str(runs / "digits"), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["samples", "-" * 13, "training data", "w = 1", "w = 1.5"]
    rows = json.loads(out.read_text())
    assert [row["samples"] for row in rows] == ["training data", "w = 1", "w = 1.5"]
    assert rows[1]["nfe"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing argument"),
        (["train", "digits", "--fast"], "No such option"),
        (["train", "digits", "--steps", "many"], "Invalid value for '--steps'"),
        (["train", "digits", "--steps", "0"], "steps must be an integer >= 1, got 0"),
        (["train", "digits", "--seed", "-1"], "seed must be an integer >= 0, got -1"),
        (["train", "digits", "--set", "speed=3"], "got 'speed'"),
        (["train", "digits", "--set", "batch_size=x"], "batch_size must be an integer, got 'x'"),
        (["train", "digits", "--set", "data=cats"], "no data set and no folder 'cats': give one of digits, mnist"),
        (["train", "digits", "--set", "parts.clip=zoo:clip-vit", "--out", "{tmp}/x"], "stands on no others, got clip"),
        (["train", "mnist-latent", "--set", "parts.clip=x", "--out", "{tmp}/x"], "may stand on autoencoder, got clip"),
        (["train", "digits", "--device", "abacus"], "device 'abacus' cannot be used here"),
        (["train", "digits", "--out", ""], "--out must not be empty"),
        (["train", "digits", "--out="], "--out must not be empty"),
        (["train", ""], "an argument must not be empty"),
        (["sample", ""], "an argument must not be empty"),
        (["train", "digits", "--threads", "100000"], "--threads must be at most"),
        (["train", "digits", "--threads", "100000000000000000000"], "--threads must be at most"),
        (["train", "digits", "--processes", "100000"], "--processes must be at most"),
        (["train", "digits", "--out", "{runs}/digits", "--resume", "--overwrite"], "exclude each other"),
        (["train", "digits", "--steps", "2", "--set", "steps=3"], "steps is given twice, by --set and by an option"),
        (["train", "digits", "--set", f"steps={'[' * 5000}"], "steps must be an integer, got '[["),
        (["grade", "{tmp}/none.ipynb", "--memory", "inf"], "--memory must be a finite number, got inf"),
        (["zoo", "--samples", "5"], "--samples only goes with --pack"),
        (["train", "digits", "--checkpoint-every", "0", "--out", "{tmp}/x"], "checkpoint_every must be an integer"),
        (["train", "digits", "--out", "{tmp}/file/below"], "cannot be written"),
        (["train", "digits", "--out", "{runs}/digits"], "add --resume to go on"),
        (["train", "moons", "--out", "{runs}/digits", "--resume"], "holds a run of 'digits', not of 'moons'"),
        (
            ["train", "digits", "--out", "{runs}/digits", "--resume", "--steps", "1"],
            "has steps = 2 and cannot go on with 1",
        ),
        (
            ["train", "digits", "--out", "{runs}/digits", "--resume", "--set", "lr=0.1"],
            "has lr = 0.003 and cannot go on",
        ),
        (
            ["train", "digits", "--out", "{runs}/digits", "--resume", "--seed", "1"],
            "has seed = 0 and cannot go on with 1",
        ),
        (["sample", "{tmp}/none"], "holds no run"),
        (["sample", "{tmp}/two\nlines"], "holds no run"),
        (["sample", "{runs}/digits", "--label", "10"], "label must lie in 0 ... 9, got 10"),
        (["sample", "{runs}/digits", "--label", "three"], "label must lie in 0 ... 9, got 'three'"),
        (["sample", "{runs}/free", "--label", "1"], "takes no guide"),
        (["sample", "{runs}/free", "--scale", "2"], "are drawn without a guide"),
        (["sample", "{runs}/moons", "--method", "dopri5", "--steps", "3"], "--steps does not go with --method dopri5"),
        (["sample", "zoo:unclip-prior", "--count", "1"], "--out must end in .npz or .pt: samples of shape (64,)"),
        (["sample", "{runs}/digits", "--count", "0"], "count must be an integer >= 1, got 0"),
        (["sample", "{runs}/digits", "--steps", "0"], "steps must be an integer >= 1, got 0"),
        (["sample", "{runs}/digits", "--scale", "nan", "--out", "{tmp}/s.png"], "scale must be a finite number"),
        (["sample", "{runs}/moons", "--weak", "{runs}/moons"], "--weak goes with a --scale, such as 1.5"),
        (["sample", "{runs}/moons", "--weak", "{runs}/free", "--scale", "2"], "weak must take the same guides"),
        (["sample", "{runs}/moons", "--weak", "{runs}/digits", "--scale", "2"], "must name a run of the same data"),
        (["sample", "{runs}/digits", "--weak", "{runs}/vae", "--scale", "2"], "vae is a 'vae'"),
        (["sample", "{runs}/moons", "--weak", "{tmp}/none", "--scale", "2"], "holds no run"),
        (["sample", "{runs}/digits", "--method", "magic"], "method must be one of"),
        (["sample", "{runs}/digits", "--batch-size", "0"], "batch_size"),
        (["sample", "{runs}/digits", "--out", "s.docx"], "--out must end in .png, .gif, .npz, .pt, got 's.docx'"),
        (["sample", "{runs}/digits", "--out", "{tmp}/file/s.png"], "file is no folder that can be written to"),
        (["sample", "{tmp}/none", "--out", "{tmp}/file/s.png"], "file is no folder that can be written to"),
        (["sample", "{runs}/digits", "--count", "99999999999999999999"], "count must be an integer of at most 63 bits"),
        (["evaluate", "{runs}/digits", "--samples", "0"], "samples must be an integer >= 1, got 0"),
        (["evaluate", "{runs}/moons", "--likelihood", "5"], "bits/dim need a field on pixels: 'moons'"),
        (["evaluate", "{runs}/digits", "--out", "{tmp}/none/t.json"], "--out: there is no folder"),
        (["evaluate", "{runs}/vae", "--scale", "2"], "a run of the system 'vae' takes no --scale"),
        (["evaluate", "{runs}/vae", "--steps", "2"], "a run of the system 'vae' takes no --steps"),
        (["evaluate", "{runs}/vae", "--likelihood", "2"], "a run of the system 'vae' takes no --likelihood"),
        (["sample", "{runs}/vae", "--method", "ddim"], "a run of the system 'vae' takes no --method"),
        (["sample", "{runs}/vae", "--steps", "2"], "a run of the system 'vae' takes no --steps"),
        (["sample", "{runs}/vae", "--label", "2"], "takes no guide"),
        (["sample", "{runs}/vae", "--out", "{tmp}/s.gif"], "a run of the system 'vae' takes no --out *.gif"),
        (["evaluate", "{runs}/digits", "--samples", "10"], "samples must be 65 or more to be measured"),
        (["sample", "{runs}/digits", "--method", "ddpm"], "method 'ddpm' needs a path that preserves variance"),
        (["train", "digits", "--device", "mps"], "device 'mps' cannot be used here; what can: cpu"),
        (["train", "digits", "--device", "meta"], "device 'meta' cannot be used here; what can: cpu"),
        (["recipes", "nope"], "recipe must be one of"),
        (["data", "fetch"], "Missing argument"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, runs, tmp_path, arguments, message):
    (tmp_path / "file").write_text("in the way")
    given = [part.format(tmp=tmp_path, runs=runs) for part in arguments]
    assert message in refused(capsys, *given)


def test_a_damaged_checkpoint_is_one_line_too(capsys, runs, tmp_path):
    assert main(["train", "moons", "--out", str(tmp_path), "--steps", "2", "--no-pictures"]) == 0
    file = next((tmp_path / "checkpoints").glob("step-*/average.safetensors"))
    file.write_bytes(file.read_bytes()[:-10])
    assert "the checkpoint is damaged" in refused(capsys, "sample", tmp_path)


def test_a_command_that_is_refused_changes_no_run(capsys, tmp_path):
    run = tmp_path / "run"
    short = ["--steps", "2", "--set", "net.width=8", "--no-pictures"]
    assert main(["train", "moons", "--out", str(run), *short]) == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def unchanged():
        return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before

    for option in ("--log-every", "--checkpoint-every"):
        for more in (["--overwrite", *short], ["--resume", "--steps", "9"]):
            line = refused(capsys, "train", "moons", "--out", run, *more, option, "0")
            assert "must be an integer >= 1, got 0" in line
            assert unchanged()
        assert refused(capsys, "train", "moons", "--out", tmp_path / "new", *short, option, "0")
        assert not (tmp_path / "new").exists()
    (state,) = run.glob("checkpoints/*/state.pt")
    content = before[state]
    state.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "damaged" in refused(capsys, "train", "moons", "--out", run, "--resume", "--steps", "9")
    state.write_bytes(content)
    assert unchanged()


def test_a_record_of_a_run_that_never_began_is_in_nobodys_way(tmp_path):
    short = ["--steps", "2", "--set", "net.width=8", "--no-pictures"]
    assert main(["train", "moons", "--out", str(tmp_path / "run"), *short]) == 0
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "recipe.json").write_bytes((tmp_path / "run" / "recipe.json").read_bytes())
    assert main(["train", "digits", "--out", str(tmp_path / "left"), *TINY]) == 0


@pytest.mark.parametrize("suffix", [".png", ".gif", ".npz", ".pt"])
def test_a_full_disk_leaves_the_old_file(runs, tmp_path, capsys, monkeypatch, suffix):
    out = tmp_path / f"samples{suffix}"
    sample = ["sample", runs / "digits", "--count", "2", "--steps", "2", "--out", out]
    assert main([str(word) for word in sample]) == 0
    before = out.read_bytes()

    def full(path, content):
        path.write_bytes(content[:10])
        raise OSError(27, "File too large")

    monkeypatch.setattr(files, "write_synced", full)
    assert f"{out} cannot be written (File too large)" in refused(capsys, *sample)
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("suffix", [".png", ".npz"])
def test_samples_that_are_no_numbers_are_not_written(runs, tmp_path, capsys, suffix):
    out = tmp_path / f"samples{suffix}"
    line = refused(capsys, "sample", runs / "digits", "--count", "2", "--steps", "2", "--scale", "1e300", "--out", out)
    assert "samples have become infinite or no numbers: try another --scale" in line
    assert not list(tmp_path.iterdir())


def test_too_much_for_the_memory_is_one_line(runs, capsys, monkeypatch):
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")):

        def all_gone(*_, error=error, **__):
            raise error

        monkeypatch.setattr(flowlib.runs, "load_run", all_gone)
        assert "not enough memory for so much at once" in refused(capsys, "sample", runs / "moons")


def test_resume_takes_the_recipe_from_the_folder(capsys, tmp_path):
    arguments = ["train", "digits", "--out", str(tmp_path)]
    assert main([*arguments, *TINY]) == 0
    assert main([*arguments, "--resume", "--no-pictures"]) == 0
    assert "Trained digits for 2 steps" in capsys.readouterr().out
    assert main([*arguments, "--overwrite", *TINY, "--set", "lr=0.1"]) == 0
    assert json.loads((tmp_path / "recipe.json").read_text())["recipe"]["training"]["lr"] == 0.1


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path):
    options = ["--checkpoint-every", "10", "--steps", "100000", "--no-pictures"]
    command = [sys.executable, "-m", "flowlib", "train", "moons", "--out", str(tmp_path), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A test suite that runs in the background ignores the signal, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while process.poll() is None and not (tmp_path / "checkpoints" / "latest.json").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert output == ""
    last = error.strip().splitlines()[-1]
    assert last.startswith("flowlib: interrupted; step ")
    assert last.endswith(f"of 100000 is saved; go on with: flowlib train moons --out {tmp_path} --resume")
    assert "Traceback" not in error


def test_a_table_aligns_its_columns():
    rows = [{"name": "a", "value": 1.23456, "count": 10}, {"name": "long name", "value": 100.0}]
    assert format_table(rows).splitlines() == [
        "name       value  count",
        "---------  -----  -----",
        "a          1.235     10",
        "long name    100",
    ]


def test_names_of_recipes_are_completed_without_waiting_for_torch():
    assert sorted(RECIPES) == list(RECIPE_NAMES)
    assert complete_recipe("mnist-d") == ["mnist-dit"]
    script = {"_FLOWLIB_COMPLETE": "complete_bash", "COMP_WORDS": "flowlib train moo", "COMP_CWORD": "2"}
    code = "from flowlib.cli.app import app; import atexit, sys\natexit.register(lambda: print('torch' in sys.modules))"
    told = subprocess.run(
        [sys.executable, "-c", f"{code}; app(prog_name='flowlib')"],
        env={**os.environ, **script}, capture_output=True, text=True,
    )  # fmt: skip
    assert told.stdout.split() == ["moons", "False"], told.stderr
