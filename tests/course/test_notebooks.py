"""Every lecture and every solution runs from its first cell to its last, shortened, in a copy of its folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from parts import REPOSITORY, SOURCES, in_parts

pytest.importorskip("nbval", reason="nbval is not installed: it comes with the extra 'course'")


@in_parts([path.with_suffix(".ipynb") for path in SOURCES])
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(path.parent, tmp_path / path.parent.name, ignore=shutil.ignore_patterns("*.py")))
    environment = {"FLOWLIB_FAST": "1", "FLOWLIB_RUNS": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1"}
    python_path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    options = ["--nbval-lax", "--nbval-kernel-startup-timeout=300", "--nbval-cell-timeout=600", "--no-header", "-q"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", "-p", "no:xdist", copy / path.name],
        cwd=tmp_path,
        env={**os.environ, **environment, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert result.returncode == 0, f"{result.stdout[-6000:]}\n{result.stderr[-2000:]}"
