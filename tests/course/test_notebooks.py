"""Every lecture and every solution runs from its first cell to its last, shortened, in a copy of its folder.

Their kernels are forked (tests/forked.py) and driven by nbclient; test_nbval.py has kernels that are started anew.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from parts import REPOSITORY, SOURCES, in_parts

pytest.importorskip("nbval", reason="nbval is not installed: it comes with the extra 'course'")

import nbformat
from forked import CONTEXT, Forked, kernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError


class Forking(LocalProvisioner):
    """Kernels are forked, with the arguments that a command would have."""

    async def launch_kernel(self, cmd: list[str], **settings: Any) -> dict[str, Any]:
        words = cmd[cmd.index("-f") :]
        self.process = Forked(kernel, words, settings["env"], settings["cwd"])
        self.pid = self.process.pid
        return self.connection_info


class Manager(AsyncKernelManager):
    async def _async_pre_start_kernel(self, **settings: Any) -> Any:
        if CONTEXT:
            self.kernel_id = settings.get("kernel_id", "forked")
            self.provisioner = Forking(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**settings)


def run(notebook: Path, **environment: str) -> None:
    """Run a notebook in its folder; an error of nbclient's for the first cell that fails."""
    python_path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    client = NotebookClient(
        nbformat.read(notebook, as_version=4),
        timeout=600,
        startup_timeout=300,
        kernel_name="python3",
        kernel_manager_class=Manager,
        resources={"metadata": {"path": str(notebook.parent)}},
    )
    client.execute(env={**os.environ, **environment, "PYTHONPATH": python_path})


@in_parts([path.with_suffix(".ipynb") for path in SOURCES])
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(path.parent, tmp_path / path.parent.name, ignore=shutil.ignore_patterns("*.py")))
    run(copy / path.name, FLOWLIB_FAST="1", FLOWLIB_RUNS=str(tmp_path / "runs"), OMP_NUM_THREADS="1")


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        ("from flowlib.course.notebook import fast\nassert not fast, 'shortened'", CellExecutionError, "shortened"),
        ("import os\nassert os.environ['OMP_NUM_THREADS'] != '3', 'three'", CellExecutionError, "three"),
        ("import os\nos._exit(1)", DeadKernelError, "died"),
        ("import numpy, matplotlib.pyplot as plt\nassert plt.get_backend() == 'agg'", CellExecutionError, "Assertion"),
    ],
)
def test_a_notebook_that_fails_is_noticed(tmp_path: Path, cell: str, error: type[Exception], message: str) -> None:
    path = tmp_path / "fails.ipynb"
    cells = [nbformat.v4.new_code_cell(source) for source in ("x = 1", cell, "assert x == 1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    with pytest.raises(error, match=message):
        run(path, FLOWLIB_FAST="1", OMP_NUM_THREADS="3")
