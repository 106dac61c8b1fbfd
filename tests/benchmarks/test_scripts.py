"""Every script of benchmarks/ at a size of seconds. MNIST is the bundled digits, blown up to 28 x 28 pixels."""

import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from flowlib.data import digits, mnist
from flowlib.recipes import change, find_recipe
from flowlib.training import Trainer

pytestmark = pytest.mark.full
FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
PEERS = {"samplers": ("diffusers", "flow_matching"), "unet_speed": ("diffusers",)}
RECAPTION = "--steps 1 --captioner-steps 1 --sampling-steps 1 --batch-size 4 --size 64"
# A script and its arguments; what lines of its output match, and how many.
SMALL: dict[str, tuple[str, int]] = {
    "adm network --steps 2 --sampling-steps 2 --variants plain together": (r"^(plain|together) .* ± ", 2),
    "adm guidance --steps 1 --classifier-steps 1 --sampling-steps 1 --seeds 0": (r"^classifier.*\d$", 15),
    "autoencoders --steps 3 --gan-steps 2 --flow-steps 2": (r"^(autoencoder|vae|[01]\.\d+|gan|flow) .*\d ± \d", 13),
    "autoencoders --data mnist --parts sampling --steps 3": (r"^(autoencoder|vae) .*\d ± \d", 2),
    "clip encoders --steps 1": (r"^clip-(vit|conv) .* ± ", 2),
    "clip batches --steps 1 --batch-sizes 64 128": (r"^(64|128) +\d .* ± ", 2),
    "control strength --steps 1 --sampling-steps 1 --strengths 0 1": (r"^(test|strength|no) .* ± ", 4),
    "control steps --steps 2 --sampling-steps 1 --marks 0 2": (r"^ *[02] .* ± ", 2),
    "control images --steps 1 --sampling-steps 1 --counts 40": (r"^ *40 +(copy|all|small|anew) .* ± ", 4),
    "control two --steps 1 --sampling-steps 1": (r"^(none|edges|mask|both) .* ± ", 4),
    "ddpm_steps chains --images 20 --draws 20": (r"^(linear|cosine) ", 26),
    "ddpm_steps quality --data digits --steps 2 --evaluations 2": (r"^(ddpm-linear|iddpm-hybrid) .* ± ", 11),
    "ddpm_steps quality --small --steps 1 --evaluations 2 --no-clip": (r"^(ddpm|iddpm)-.*, not clipped .* ± ", 11),
    "dalle choosing --prompts 4 --candidates 4": (r"^ *[124] .* ± ", 3),
    "dalle drawing": (r"^(temperature|top) .* ± ", 9),
    "dalle patterns --steps 1": (r"^(sparse|full) .* ± ", 2),
    "dalle cache --batches 1 2 --repetitions 1": (r"^ *[12] .*%$", 2),
    "dalle bits": (r"^(uniform|tokens|most|under) .* ± ", 4),
    "disco --steps 1 --sampling-steps 2 --variants base secondary": (r"^(base|secondary) .* ± ", 2),
    "lora ranks --steps 1 --sampling-steps 1 --rows real base 2 full": (r"^(real|base|2|full) .* ± ", 4),
    "lora together --steps 1 --sampling-steps 1": (r"^ *[01](\.7)? +[01](\.7)? .* ± ", 4),
    "lora shapes": (r"^(Stable|ours) .*\d$", 10),
    "glide --steps 1 --sampling-steps 2 --rows w=1 clip=30": (r"^(w=1|clip=30) .* ± ", 2),
    "memorisation --steps 1 --sampling-steps 1 --times 0 0.3": (r"^(training|test|0.0|0.3) ", 4),
    "memorisation scales --steps 1 --sampling-steps 1 --samples 260 --scales 1 1.5": (r"^(training|1.0|1.5) ", 3),
    "memorisation scales --steps 1 --sampling-steps 1 --samples 260 --scales 1.5 --interval 0.2 0.6": (
        r"^(training|1.5) ",
        2,
    ),
    "memorisation posterior --steps 1 --at 0.1 0.5": (r"^0.[15] .*\d$", 2),
    "together --sampling-steps 1": (r"^(scenes|inpainter|and) .* ± ", 4),
    "painters networks --steps 1 --sampling-steps 1 --rows recipe transformer": (r"^(recipe|transformer) .* ± ", 2),
    "painters speed --batch 2": (r"^(GLIDE|no words|semantic|Disco).*\.\d$", 7),
    "iddpm_likelihood --data digits --chain 30 --steps 2 --images 4 --batches 2 --noise-steps 1": (
        r"^(lin|cos).*L_",
        16,
    ),
    "likelihood bound --steps 1 --recipe digits-likelihood --samples 6 --cells 3": (r"^bound, 4 .* ± ", 1),
    "likelihood ode --steps 1 --recipe digits-likelihood --samples 2 --grids 4 3 --probes 2": (r"^ *[12] +ODE.* ± ", 4),
    "likelihood where --steps 1 --recipe digits-likelihood --samples 4": (r"^(-|\d).*\d$", 15),
    "likelihood variants --steps 1 --recipe digits-likelihood --samples 4 --cells 3 --seeds 0 1": (
        r"^(bins|U-Net).* ± ",
        3,
    ),
    "latent quality --factors 1 --steps 1 --sampling-steps 1": (r"^1 .* ± ", 1),
    "latent quality --factors 4 --steps 56 --stage-steps 1 --sampling-steps 1": (r"^4 .* ± ", 1),
    "latent guides --factors 1 --steps 1 --sampling-steps 1 --seeds 0": (r" f = 1, (a draw|mean of 8) .*\d$", 4),
    "latent guides --factors 4 --steps 56 --stage-steps 1 --sampling-steps 1 --seeds 0": (r" f = 4, .*\d$", 4),
    "mnist --recipes tiny --steps 1 --samples 140": (r"^\| tiny ", 2),
    "mnist --recipes tiny --minutes 0.001 --scales 1 2 --samples 260 --figure time.png": (r"^tiny +0.001 ", 2),
    "sam prompts --steps 1 --everything 2": (r"^(one|three|box|mask|text|embed|every).* ± ", 7),
    "sam variants --steps 1 --everything 1 --rows sam one-mask no-pre-training": (r"^(sam|one|no).* ± ", 3),
    "sam engine --steps 1 --images 2 --side 2": (r"^(by hand|assisted|automatic|all by hand) .* ± ", 4),
    "recaption captioners --captioner-steps 1 --batch-size 4": (r"^embedding.* ± ", 3),
    f"recaption prompts --rows given short-95 {RECAPTION}": (r"^(given|short-95) +\w+ .* ± ", 12),
    f"recaption binding --rows descriptive-100 {RECAPTION}": (r"^descriptive-100 .* ± .*\(", 1),
    "semantic --steps 1 --sampling-steps 2": (r"^(none|text|content|structure|style) .* ± ", 16),
    "sweep --steps 3 --sampling-steps 1 --variants recipe wider": (r"^(recipe|wider) ", 4),
    "text_to_image --sampling-steps 1 --rows scenes GLIDE": (r"^(scenes|GLIDE) .* ± ", 2),
    "unclip priors --steps 1 --sampling-steps 1 --rows none diffusion-alone": (r"^(none|diffusion-alone) .* ± ", 2),
    "unclip variations --steps 1 --sampling-steps 2 --rows eta=0.5 no-embedding": (r"^(eta=0.5|no-emb.*) .* ± ", 2),
    "unclip blends --steps 1 --sampling-steps 2 --rows 0.5": (r"^0.5 .* ± ", 1),
    "unclip binding --steps 1 --sampling-steps 1 --rows glide autoregressive": (r"^(glide|autoregressive) .* ± ", 2),
    "overhead --repetitions 1 --batch-size 2": (r"(reached|MISSED)$", 35),
    "scenes --repetitions 1 --sets scenes scenes-32": (r"^scenes", 2),
    "side_by_side --minutes 0.01 --sampling-steps 1 --rows mnist 6.S184-lab-3": (
        r"^0.01 +(mnist|6.S184-lab-3) .* ± ",
        2,
    ),
    "sharded plan --gpus 4": (r"^(GB|TFLOP|ms|images) .*\d  +\d+", 8),
    "samplers --seeds 1 --count 20 --noisy-count 40": (r"(reached|MISSED) ", 8),
    "unet_speed --repetitions 1 --batch-size 2": (r"( x\).*){4}", 3),
    "train_evaluator --epochs 1": (r"^sha256 ", 1),
}
NOT_KEPT = (
    "overhead", "scenes", "samplers", "painters speed", "unet_speed", "train_evaluator", "ddpm_steps chains",
    "lora shapes", "sharded", "dalle cache",
)  # fmt: skip


def blown_up(split: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
    pixels, labels = digits.raw(split)
    return F.pad(F.interpolate(pixels.float() * 15, size=24), (2, 2, 2, 2)).to(torch.uint8), labels


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> Iterator[Callable[..., str]]:
    """Runs a script in this process, with MNIST in small; what it printed."""
    threads = torch.get_num_threads()
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mnist, "raw", blown_up)
    tiny = change(find_recipe("mnist"), name="tiny", steps=1, references=10)
    monkeypatch.setitem(vars(sys.modules["flowlib.recipes.named"])["RECIPES"]._all, "tiny", tiny)

    def call(script: str, *arguments: str) -> str:
        for module in PEERS.get(script, ()):
            pytest.importorskip(module)
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(FOLDER / f"{script}.py"), run_name="__main__")
        return capsys.readouterr().out

    yield call
    torch.set_num_threads(threads)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(run: Callable[..., str], script: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as status:
        run(script, "--help")
    assert not status.value.code
    assert capsys.readouterr().out.startswith("usage: ")


def test_the_page_lists_every_script_with_a_command() -> None:
    page = (FOLDER / "README.md").read_text("utf-8")
    assert sorted(re.findall(r"^\| `(\w+)\.py` \|", page, re.MULTILINE)) == SCRIPTS
    assert {name for name in SCRIPTS if f"`python benchmarks/{name}.py" not in page} == set()


@pytest.mark.parametrize("words", SMALL, ids=str)
def test_at_a_small_size(run: Callable[..., str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script, *arguments = words.split()
    if not words.startswith(NOT_KEPT):
        arguments += (
            [] if "--seeds" in arguments or script in ("mnist", "memorisation", "likelihood") else ["--seeds", "0", "1"]
        )
        arguments += [] if "--samples" in arguments or script in ("mnist", "iddpm_likelihood") else ["--samples", "140"]
    if script == "overhead":  # which imports torch twenty times
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    printed, (pattern, count) = run(script, *arguments), SMALL[words]
    assert len(re.findall(pattern, printed, re.MULTILINE)) == count, printed
    assert not re.search(r"\bnan\b", printed), printed
    if words.startswith((*NOT_KEPT, "mnist")):
        return

    def train(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "step", train)
    assert run(script, *arguments) == printed


def test_results_are_kept_for_their_settings_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    from _common import kept

    calls: list[int] = []

    def compute(value: int) -> dict[str, int]:
        calls.append(value)
        return {"value": value}

    path = tmp_path / "folder" / "result.json"
    assert kept(path, {"seeds": (0, 1)}, compute, 1) == {"value": 1}
    assert kept(path, {"seeds": (0, 1)}, compute, 2) == {"value": 1}
    assert kept(path, {"seeds": (0, 2)}, compute, 3) == {"value": 3}
    assert calls == [1, 3]
    with pytest.raises(ZeroDivisionError):
        kept(path, {"seeds": (0, 3)}, lambda: 1 / 0)
    assert kept(path, {"seeds": (0, 2)}, compute, 4) == {"value": 3}  # what was there still is
    assert list(path.parent.iterdir()) == [path]


def test_a_table_says_its_command_without_places_of_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    from _common import write_tables

    for run, told in (("runs/mine", " --run runs/mine"), ("zoo:digits", " --run zoo:digits"), (str(tmp_path), "")):
        words = ["scales", "--out", "here", "--run", run, "--scales", "1", "--write", "there.md"]
        write_tables(["a  b"], "some.py", words, tmp_path / "table.md")
        line = f"Made by `python benchmarks/some.py scales{told} --scales 1`."
        assert (tmp_path / "table.md").read_text().splitlines()[0] == line
    assert "written to" in capsys.readouterr().out


def test_a_spread_of_what_is_infinite_is_its_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    from _common import spread

    assert [spread([1.0]), spread([1.0, 3.0], ".1f"), spread([1.0, float("inf")])] == ["1.00", "2.0 ± 1.4", "inf"]


def test_a_budget_pays_for_as_many_steps_as_fit_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    from _quality import training_flops, within

    budget = training_flops(change(find_recipe("mnist"), steps=40))
    assert within(find_recipe("mnist"), budget).training.steps == 40
    small = change(find_recipe("mnist-latent"), **{"first_stage.steps": 1})
    wide = within(small, training_flops(change(small, steps=10)))
    assert wide.training.steps == 10
    with pytest.raises(ValueError, match="do not even pay"):
        within(find_recipe("mnist-latent"), budget)


def test_a_cache_changes_logits_by_the_rounding_of_their_precision(run: Callable[..., str]) -> None:
    head, _, row = run("dalle", "cache", "--batches", "2", "--repetitions", "1").strip().splitlines()
    cells = dict(zip(re.split(" {2,}", head.strip()), re.split(" {2,}", row.strip()), strict=True))
    largest, single, double = (float(cells[name]) for name in ("largest logit", "difference, single", "double"))
    assert 1 < largest < 1000, cells
    assert 1e-9 < single / largest < 2e-6, cells
    assert 0 < double / largest < 1e-13, cells


def test_shards_learn_as_one_process_does_and_hold_half() -> None:
    words = [sys.executable, str(FOLDER / "sharded.py"), "step", "--width", "64", "--depth", "1"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300).stdout
    rows = {line.split("  ")[0]: line.split() for line in printed.splitlines()[2:]}
    assert all(float(row[-3]) < 1e-5 for row in rows.values()), printed
    assert float(rows["FSDP"][-2]) < 0.6 * float(rows["DDP"][-2]), printed


def test_busy_measures_a_real_training(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "find", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    printed = run("busy", "--seconds", "0.5", "--warmup", "0", "--rounds", "1", "--rows", "1 thread")
    assert re.search(r"^1 thread +[1-9]\d+ +[1-9]\d+ +\d\.\d\d$", printed, re.MULTILINE), printed


def test_busy_ends_torchruns_processes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    from busy import BUSY, running

    script = tmp_path / "script.py"
    script.write_text("import os, sys, time\nopen(sys.argv[1] + '/' + str(os.getpid()), 'w')\ntime.sleep(600)\n")
    pids = tmp_path / "pids"
    pids.mkdir()
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        running(BUSY) as busy,
        running([*launch, str(script), str(pids)]) as several,
    ):
        wait_for(lambda: len(list(pids.iterdir())) == 2)
        raise KeyboardInterrupt
    assert busy.poll() is not None
    assert several.poll() is not None
    for path in pids.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_busy_ends_its_training_when_it_is_ended(tmp_path: Path, ending: signal.Signals) -> None:
    if not Path("/proc/self/environ").exists():
        pytest.skip("this system has no /proc, by which processes could be found")
    empty = {"FLOWLIB_DATA": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    words = ["--rows", "1 thread", "--seconds", "1000"]
    script = subprocess.Popen([sys.executable, str(FOLDER / "busy.py"), *words], env={**os.environ, **empty})
    wait_for(lambda: any(path.stat().st_size for path in tmp_path.glob("*/run/metrics.jsonl")))
    assert len(children(tmp_path)) == 2  # itself and the training
    script.send_signal(ending)
    assert script.wait(60) == 128 + ending
    assert children(tmp_path) == []


def children(marker: Path) -> list[str]:
    """The processes whose temporary files are to lie in `marker`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TMPDIR={marker}\0".encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:  # ended meanwhile, or someone else's
            continue
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not begin"
        time.sleep(0.1)
