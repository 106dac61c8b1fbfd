"""What a bank has started ends with it, whichever way that ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from parts import SMALL

from flowlib.course.processes import ended_by_signals

FOR_EVER = "from pathlib import Path; import os; Path({!r}, f'{{os.getpid()}}').touch()\nwhile True: pass\n"
MISTAKE = "# %% mistake=\"no end\"\n'''\n- t = uniform_time(100 if\n+ {}\n+ t = uniform_time(100 if\n'''\n"
NUMBERS = [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.full)]
NUMBERS += [signal.SIGKILL] if sys.platform == "linux" else []  # elsewhere the processes are not told


def heard() -> None:
    """A shell has what it starts in the background ignore Ctrl-C; not so the command that is tested."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="a lecture's mistakes are tried in forks")
@pytest.mark.parametrize("number", NUMBERS)
def test_the_processes_of_a_bank_end_with_it(tmp_path: Path, number: signal.Signals) -> None:
    """An answer and a changed lecture, both without end; a signal is sent to the command alone."""
    running, temporary, root = tmp_path / "running", tmp_path / "temporary", tmp_path / "root"
    shutil.copytree(SMALL, root)
    running.mkdir()
    temporary.mkdir()
    loop = FOR_EVER.format(str(running))
    (root / "solutions/01_mean_answers.py").write_text(f'# %% wrong="01.1" hint="none"\n{loop}')
    (root / "lectures/01_mean_mistakes.py").write_text(MISTAKE.format("\n+ ".join(loop.splitlines())))
    command = [sys.executable, "-m", "flowlib", "course", "bank", "--root", str(root), "--jobs", "2"]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    said = tmp_path / "said"
    with said.open("w") as file:
        bank = subprocess.Popen(command, env=environment, stdout=file, stderr=file, preexec_fn=heard)
    while len(list(running.iterdir())) < 2:  # the answer and the fork of the lecture
        assert bank.poll() is None, said.read_text()
        time.sleep(0.1)
    started = psutil.Process(bank.pid).children(recursive=True)
    assert {int(path.name) for path in running.iterdir()} < {process.pid for process in started}
    try:
        bank.send_signal(number)
        assert bank.wait(timeout=30) == (-number if number == signal.SIGKILL else 128 + number)
        assert not alive(psutil.wait_procs(started, timeout=10)[1])
    finally:
        for process in (bank, *alive(started)):
            process.kill()
    if number != signal.SIGKILL:
        assert not list(temporary.iterdir())  # the copy of the lecture's folder


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that run: one that has ended stays listed where nobody asks for its status."""
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no hang-up")
def test_a_hang_up_ends_a_command_but_not_under_nohup() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with ended_by_signals():
            signal.raise_signal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with pytest.raises(SystemExit) as left, ended_by_signals():
            signal.raise_signal(signal.SIGHUP)
        assert left.value.code == 128 + signal.SIGHUP
    finally:
        signal.signal(signal.SIGHUP, before)
