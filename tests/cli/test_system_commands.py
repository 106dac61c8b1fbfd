"""A command that a system from elsewhere brings: its help, its options, its errors; in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

FILE = Path(__file__).with_name("toy_system.py")

CALLS = """
import contextlib, io, json, sys
from flowlib.cli import main
for arguments in json.loads(sys.argv[1]):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = main(arguments)
    print(json.dumps([status, out.getvalue(), error.getvalue()]))
"""


class Said(NamedTuple):
    """What a command ended with, and wrote."""

    status: int
    out: str
    error: str

    @property
    def refusal(self) -> str:
        """The one line on standard error of a command that has failed with status 2."""
        assert (self.status, self.out) == (2, ""), self
        assert self.error.startswith("flowlib: ")
        assert self.error.count("\n") == 1
        return self.error


def python(code: str, *arguments: str, systems: Path | str = FILE, **more: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FLOWLIB_SYSTEMS": str(systems), "COLUMNS": "100", **more}
    call = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def flowlib(*calls: list[object], systems: Path | str = FILE) -> list[Said]:
    """Several commands, one after the other in a process whose environment names `systems`."""
    told = python(CALLS, json.dumps([list(map(str, call)) for call in calls]), systems=systems)
    return [Said(*json.loads(line)) for line in told.splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy, and one of a flow."""
    folder = tmp_path_factory.mktemp("toys")
    common = ["--steps", "2", "--no-pictures"]
    for said in flowlib(
        ["train", "toy-counter", "--out", folder / "toy-counter", *common],
        ["train", "moons", "--out", folder / "moons", *common, "--set", "net.width=8"],
    ):
        assert said.status == 0, said
    return folder


def test_the_first_help_has_it_without_importing_torch_or_the_file() -> None:
    code = (
        "import sys; from flowlib.cli import main; status = main(['--help'])\n"
        "assert status == 0\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "assert not [name for name in sys.modules if 'toy_system' in name], 'the file was imported'\n"
    )
    lines = [line.split(None, 1) for line in python(code).splitlines()]
    assert ["count", "Count what is there."] in lines
    assert ["anything", "Take any run."] in lines
    assert any(line and line[0] == "train" for line in lines)
    assert "count" not in python(code, systems="")


def test_the_help_has_those_of_installed_packages(tmp_path: Path) -> None:
    """A module and a package with one, each with an entry point; and one whose module is gone, which breaks no help."""
    (tmp_path / "one.py").write_bytes(FILE.read_bytes())
    (tmp_path / "several").mkdir()
    (tmp_path / "several" / "__init__.py").touch()
    (tmp_path / "several" / "inner.py").write_text("Command('within', int, print, help='In a package.')")
    record = tmp_path / "toys-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    names = "a = one\nb = several\nc = gone.away\n"
    (record / "entry_points.txt").write_text(f"[flowlib.systems]\n{names}")
    code = "from flowlib.cli import main; main(['--help'])"
    lines = [line.split(None, 1) for line in python(code, systems="", PYTHONPATH=str(tmp_path)).splitlines()]
    assert ["count", "Count what is there."] in lines
    assert ["within", "In a package."] in lines


def test_without_a_command_the_help_is_printed_as_it_is() -> None:
    bare, asked = flowlib([], ["--help"])
    assert bare == asked
    assert bare.status == 0
    assert bare.out.startswith("Usage: flowlib [OPTIONS] COMMAND [ARGS]...\n")


def test_its_options_come_from_the_request() -> None:
    (said,) = flowlib(["count", "--help"])
    assert said.status == 0
    text = " ".join(said.out.replace("{", "").replace("}", "").split())
    assert "flowlib count [OPTIONS] RUN PATH" in text
    for part in ("Count what is there.", "Folder of a run, or zoo:NAME.",
                 "Where to write.", "--top", "How many to count.",
                 "[default: 3]", "--loud-words", "Whether to shout.", "--device"):  # fmt: skip
        assert part in text


def test_it_is_given_the_loaded_run_and_what_was_said(runs: Path) -> None:
    toy = runs / "toy-counter"
    said = flowlib(
        ["count", toy, "some/file.png", "--top", "5"],
        ["count", toy, "f", "--loud-words"],
        ["count", toy, "f"],
        ["anything", runs / "moons"],
    )
    assert [one.status for one in said] == [0, 0, 0, 0]
    assert said[0].out == "Path int bool of Linear with 2 labels\nquiet 5 file.png\n"
    assert said[1].out.splitlines()[1] == "LOUD"
    assert said[2].out.splitlines()[1] == "quiet 3 f"
    assert said[3].out == "moons\n"


def test_what_is_wrong_is_one_line_and_status_2(runs: Path, tmp_path: Path) -> None:
    toy, flow = runs / "toy-counter", runs / "moons"
    folder, file = tmp_path / "folder.txt", tmp_path / "file"
    folder.mkdir()
    file.touch()
    expected = {
        ("count", toy, "f", "--top", "0"): "flowlib: top must be an integer >= 1, got 0\n",
        ("count", tmp_path, "f", "--top", "0"): "flowlib: top must be an integer >= 1, got 0\n",  # before it loads
        ("count", toy, "f", "--top", "many"): "Invalid value for '--top'",
        ("count", tmp_path, "f", "--tone", "low"): "flowlib: --tone only goes with --loud-words\n",
        ("count", toy, "f", "--loud-words", "--tone", "low", "--not", "a"): "flowlib: --not does not go with --tone\n",
        ("count", toy, "f", "--loud-words", "--tone", " "): "flowlib: --tone must not be blank\n",
        ("count", tmp_path, "f", "--out", folder): f"flowlib: {folder} cannot be written (it is a folder)\n",
        ("count", toy, "f", "--out", file / "a.txt"): f"flowlib: {file / 'a.txt'} cannot be written ({file} is no",
        ("count", toy, "f", "--top", 2**63): "flowlib: top must be an integer of at most 63 bits,",
        ("count", toy): "Missing argument 'PATH'",
        ("count", toy, "f", "--size", "3"): "No such option: --size",
        ("count", tmp_path, "f"): "holds no run",
        ("count", flow, "f"): f"flowlib: count is no command for a run of the system 'flow': {flow}\n",
        ("sample", toy): "flowlib: a run of the system 'toy-counter' does not sample\n",
    }
    for said, message in zip(flowlib(*map(list, expected)), expected.values(), strict=True):
        assert message in said.refusal


def test_without_the_file_its_runs_and_commands_are_unknown_and_say_why(runs: Path) -> None:
    toy = runs / "toy-counter"
    command, run = flowlib(["count", toy, "f"], ["evaluate", toy], systems="")
    assert "No such command 'count'" in command.refusal
    assert "(or of a file in FLOWLIB_SYSTEMS); got 'toy-counter'" in run.refusal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "FLOWLIB_SYSTEMS names {path}, which is no file"),
        ('Command("count", 1, 2)\nclass', "{path} cannot be imported: SyntaxError: "),
    ],
)
def test_a_missing_or_broken_file_is_one_line_for_every_command_but_help(
    runs: Path, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "broken.py"
    if text is not None:
        path.write_text(text)
    help_, *others = flowlib(["--help"], ["train", "moons"], ["recipes"], ["sample", runs / "moons"], systems=path)
    assert help_.status == 0
    assert "  train" in help_.out
    for said in others:
        assert said.refusal.startswith("flowlib: " + message.format(path=path))


def test_a_command_that_no_system_brings_is_no_command(tmp_path: Path) -> None:
    path = tmp_path / "loose.py"
    path.write_text("from flowlib.systems.system import Command\nLOOSE = Command('loose', int, print)\n")
    (said,) = flowlib(["loose", "x"], systems=path)
    assert "No such command 'loose'" in said.refusal
