"""Training beside other work: samples a second of `flowlib train` on a quiet machine and beside one busy process.

    python benchmarks/busy.py

Each row is the real command line in a process of its own. "as it comes" says nothing of threads: the trainer leaves a
core to others while they need it (`flowlib.training.threads`). The other rows say how many threads or processes there
are to be, and keep them. A thread that has done its share waits for the others: it spins at first, or with
OMP_WAIT_POLICY=passive sleeps at once. "busy" is beside a Python loop in a session of its own, which takes all that it
can get of one core. Rows take turns in rounds; cells are medians over rounds, "busy / quiet" the median of each round's
ratio.

MNIST if it is found, else the bundled digits. The machine should have nothing else to do: the load is printed first.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from _common import parser_of, ratio, turns

from flowlib.data import mnist
from flowlib.plotting import format_table
from flowlib.recipes import find_recipe
from flowlib.training import read_metrics
from flowlib.training.trainer import METRICS

ENDLESS, PATIENCE = 10**6, 300.0  # steps of a training, which is ended long before; seconds that it may take to begin
SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")  # which no row inherits

BUSY = [sys.executable, "-c", "while True: pass"]


def rows_of(threads: int) -> dict[str, tuple[int, Mapping[str, str]]]:
    """How many processes each row has, and its settings of OpenMP."""
    several = {"OMP_NUM_THREADS": str(threads)}
    return {
        "as it comes": (1, {}),
        f"{threads} threads": (1, several),
        f"{threads} threads, passive": (1, {**several, "OMP_WAIT_POLICY": "passive"}),
        "1 thread": (1, {"OMP_NUM_THREADS": "1"}),
        f"{threads} processes": (threads, {"OMP_NUM_THREADS": "1"}),
    }


@contextmanager
def running(command: Sequence[str], **options: object) -> Iterator[subprocess.Popen]:
    """A process that is ended when the block is left, whatever happens in it.

    It has a session of its own, so that Ctrl-C reaches this script alone, which then ends it. It is asked first, so
    that torchrun ends its processes.
    """
    process = subprocess.Popen(command, start_new_session=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def speed(recipe: str, processes: int, settings: Mapping[str, str], warmup: float, seconds: float) -> float:
    """Samples a second of a training over `seconds`, after `warmup` seconds of it."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        command = [
            sys.executable, *several, "-m", "flowlib", "train", recipe, f"--out={folder}/run", f"--steps={ENDLESS}",
            f"--checkpoint-every={ENDLESS}", "--log-every=2", "--no-pictures",
        ]  # fmt: skip
        with running(command, env=inherited | settings, stdout=subprocess.DEVNULL, stderr=said) as process:
            journal = Path(folder) / "run" / METRICS

            def entry_after(trained: float) -> Mapping[str, float]:
                """The first line of metrics after so many seconds of training."""
                end = time.monotonic() + trained + PATIENCE
                while time.monotonic() < end:
                    entries = read_metrics(journal) if journal.exists() else []
                    if entries and entries[-1]["seconds"] >= trained:
                        return entries[-1]
                    if process.poll() is not None:
                        break
                    time.sleep(0.1)
                said.seek(0)
                raise RuntimeError(f"{' '.join(command)} did not train:\n{said.read()[-2000:]}")

            first = entry_after(warmup)
            last = entry_after(first["seconds"] + seconds)
    steps, took = last["step"] - first["step"], last["seconds"] - first["seconds"]
    return steps * find_recipe(recipe).training.batch_size / took


def measure(arguments: argparse.Namespace, recipe: str) -> list[dict[str, object]]:
    rows = rows_of(arguments.threads)
    speeds: dict[str, dict[str, list[float]]] = {name: {"quiet": [], "busy": []} for name in arguments.rows}
    for turn in range(arguments.rounds):
        for name in turns(arguments.rows, turn):
            for state, found in speeds[name].items():
                with running(BUSY) if state == "busy" else nullcontext():
                    found.append(speed(recipe, *rows[name], arguments.warmup, arguments.seconds))
                print(f"round {turn + 1}: {name}, {state}: {found[-1]:.1f}", file=sys.stderr, flush=True)
    return [
        {
            "row": name,
            **{state: f"{statistics.median(values):.0f}" for state, values in found.items()},
            "busy / quiet": f"{ratio(found, 'busy', 'quiet'):.2f}",
        }
        for name, found in speeds.items()
    ]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--threads", type=int, default=2, help="threads, and processes, of the rows with several")
    parser.add_argument("--seconds", type=float, default=20.0, help="to measure of each training")
    parser.add_argument("--warmup", type=float, default=3.0, help="seconds of each training before that")
    parser.add_argument("--rounds", type=int, default=3, help="how often each row has its turn")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help=f"of {', '.join(map(repr, rows_of(2)))} (default all)")
    parser.add_argument("--recipe", help="to train; by default mnist if the data are found, else digits")
    arguments = parser.parse_args()
    known = list(rows_of(arguments.threads))
    arguments.rows = arguments.rows or known
    if unknown := [name for name in arguments.rows if name not in known]:
        parser.error(f"--rows: {unknown[0]!r} is none of {', '.join(map(repr, known))}")
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # leave by way of `running`, which ends what it began
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    recipe = arguments.recipe or ("digits" if mnist.find() is None else "mnist")
    print(f"samples a second of `flowlib train {recipe}`, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} before")
    print(format_table(measure(arguments, recipe)))


if __name__ == "__main__":
    main()
