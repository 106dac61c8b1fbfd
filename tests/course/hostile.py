"""An exercise to be graded, and what may be handed in for it."""

import json
from pathlib import Path

from flowlib.course.authoring.cells import exercise_notebook, write_notebook
from flowlib.course.authoring.source import read_cells

NAME = "09_scaling"
QUESTIONS = 10
RIGHT = "def times_{k}(x):\n    return x * {k}"

_HEAD = """# %% [markdown]
# # Exercise 09. Scaling
# %%
import torch
factors = torch.arange(11.0)
class Number(float):
    pass
"""
_QUESTION = """# %% [markdown]
# ## 09.{k} Times {k} (1 point, 1 minute, easy)
# %% solution="09.{k}"
def times_{k}(x):
    ### BEGIN SOLUTION
    return x * {k}
    ### END SOLUTION
# %% check="09.{k}" points=1
_x = torch.arange(3.0)
assert tuple(times_{k}(_x).shape) == (3,), "the shape is lost"
assert torch.allclose(times_{k}(_x), _x * factors[{k}]), "not times {k}"
### BEGIN HIDDEN TESTS
assert times_{k}(torch.tensor(7.0)) == 7 * {k}, "not for every x"
### END HIDDEN TESTS
# %% [markdown] hints="09.{k}"
# 1. One.
# 2. Two.
# 3. Three.
# %% tags=["demo"]
raise RuntimeError("a demonstration is not run")
"""


def make_reference(folder: Path) -> Path:
    """The exercise that students get, as a notebook; its reference is in the folder `reference` beside it."""
    source = folder / f"{NAME}.py"
    source.write_text(_HEAD + "".join(_QUESTION.format(k=k) for k in range(1, QUESTIONS + 1)))
    return make(source, folder)


def make_small(folder: Path) -> Path:
    """Another exercise beside it, in the same way."""
    return make(Path(__file__).parent / "small" / "solutions" / "01_mean.py", folder)


def make(source: Path, folder: Path) -> Path:
    """An exercise of a source; its reference is in the folder `reference` beside it."""
    cells = read_cells(source)
    (folder / "reference").mkdir(exist_ok=True)
    reference = folder / "reference" / f"{source.stem}.ipynb"
    reference.write_bytes(write_notebook(exercise_notebook(source, cells, hidden=True)))
    path = folder / f"{source.stem}.ipynb"
    path.write_bytes(write_notebook(exercise_notebook(source, cells)))
    return path


class Handed:
    """A notebook to be changed and handed in. All answers are right to begin with."""

    def __init__(self, exercise: Path, *, right: bool = True) -> None:
        self.notebook = json.loads(exercise.read_text())
        for k in range(1, QUESTIONS + 1) if right else ():
            self.answer(k, RIGHT.format(k=k))

    def cell(self, grade_id: str) -> dict:
        """The first cell with that id."""
        return next(c for c in self.cells if c["metadata"].get("nbgrader", {}).get("grade_id") == grade_id)

    @property
    def cells(self) -> list[dict]:
        return self.notebook["cells"]

    def answer(self, k: int, source: str) -> "Handed":
        """Write the answer to question 09.k."""
        self.cell(f"solution-09-{k}")["source"] = source
        return self

    def before(self, k: int, source: str, **metadata: object) -> "Handed":
        """Put a cell of the student's own before the answer to question 09.k."""
        new = {"cell_type": "code", "id": f"own{len(self.cells)}", "metadata": metadata, "source": source,
               "outputs": [], "execution_count": None}  # fmt: skip
        self.cells.insert(self.cells.index(self.cell(f"solution-09-{k}")), new)
        return self

    def save(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.notebook))
        return path


def quiet(exercise: Path, outside: Path) -> Handed:
    """What ends no kernel; see `QUIET` for what it should score. `outside` is a file that it tries to overwrite."""
    handed = Handed(exercise)
    handed.answer(1, "import sys\ndef times_1(x):\n    sys.exit(0)\nsys.exit()")
    handed.answer(
        2,
        "import builtins, torch\nfactors.zero_()\ntorch.allclose = torch.equal = lambda *a, **k: True\n"
        "torch.Tensor.__eq__ = lambda *a: torch.ones(3, dtype=bool)\ntorch.Tensor.allclose = lambda *a: True\n"
        "torch.testing.assert_close.__code__ = (lambda *a, **k: None).__code__\n"
        "builtins.AssertionError = type('Never', (Exception,), {})\nbuiltins.tuple = builtins.len = lambda *a: (3,)\n"
        "torch.set_default_dtype(torch.float16); torch.set_grad_enabled(False)\n"
        "def times_2(x):\n    return x",
    )
    handed.answer(
        3,
        "import ast\nshell = get_ipython()\nclass Drop(ast.NodeTransformer):\n"
        "    def visit_Assert(self, node):\n        return ast.Pass()\n"
        "shell.ast_transformers.append(Drop())\nshell.input_transformers_post.append(lambda lines: ['pass'])\n"
        "shell.input_transformers_cleanup.append(lambda lines: ['pass'])\n"
        "shell.run_cell_async = shell.run_cell = shell.transform_cell = None\n"
        "shell.events.register('pre_run_cell', lambda *a: 1 / 0)\n"
        "def times_3(x):\n    return x",
    )
    handed.answer(
        4,
        "import sys, warnings, logging\nwarnings.simplefilter('error')\ndef times_4(x):\n"
        "    print('noise'); print('noise', file=sys.stderr); logging.error('noise')\n"
        "    return x * 4\nwarnings.warn('noise')",
    )
    handed.answer(5, "def times_5(x:\n    return x * 5")
    handed.answer(6, "%matplotlib inline\n%config InlineBackend.figure_format = 'svg'\n" + RIGHT.format(k=6))
    handed.answer(
        7,
        "import os, shutil, flowlib\nshutil.rmtree(os.getcwd(), ignore_errors=True)\n"
        f"for path in ({str(outside)!r}, flowlib.__file__):\n    try:\n"
        "        open(path, 'a').write('#')\n    except OSError:\n        pass\n" + RIGHT.format(k=7),
    )
    handed.answer(8, "import torch\ndef times_8(x):\n    torch.allclose = lambda *a, **k: True\n"
                     "    return x * 8 if x.ndim == 0 else x")  # fmt: skip
    handed.answer(
        9,
        "import torch\nclass Liar(torch.Tensor):\n    @classmethod\n"
        "    def __torch_function__(cls, function, types, args=(), kwargs=None):\n"
        "        return (3,) if 'shape' in str(function) else True\n"
        "def times_9(x):\n    return torch.Tensor._make_subclass(Liar, x * 0)",
    )
    handed.answer(10, "class MyNumber(Number):\n    pass\ntorch.manual_seed(0)\n" + RIGHT.format(k=10))
    return handed


QUIET = ["error", "killed", "wrong", "right", "error", "right", "right", "wrong", "wrong", "right"]


def shuffled(exercise: Path) -> Handed:
    """Cells deleted, edited, doubled, skipped, in another order; see `SHUFFLED`."""
    handed = Handed(exercise)
    wrong = "def times_{k}(x):\n    return x + {k}"
    handed.cells.remove(handed.cell("check-09-1"))
    handed.answer(1, wrong.format(k=1))
    handed.answer(2, wrong.format(k=2)).cell("check-09-2")["source"] = "pass"
    handed.cells.append(dict(handed.cell("check-09-3")))
    handed.cells.append({**handed.cell("solution-09-3"), "source": wrong.format(k=3)})  # the last one counts
    handed.answer(4, "# NBVAL_SKIP\n" + RIGHT.format(k=4)).cell("check-09-4")["source"] = "# NBVAL_SKIP\nassert False"
    handed.answer(5, wrong.format(k=5)).cell("check-09-5")["metadata"]["tags"] = ["raises-exception", "nbval-skip"]
    handed.cell("check-09-6")["metadata"]["nbgrader"]["points"] = 100
    handed.cells.remove(handed.cell("solution-09-7"))
    handed.cell("solution-09-8")["cell_type"] = "raw"
    handed.answer(9, "raise NotImplementedError()")
    handed.before(10, "def factor():\n    return 10\n\nfactor = undefined_name\nraise KeyboardInterrupt")
    for number in range(10_000):
        handed.cells.append(dict(handed.cells[-1], id=f"more{number}", metadata={}, source="while True: pass"))
    handed.before(10, "import time\nslow = time.sleep(0)\n1 / 0\nwhile True:\n    pass")
    handed.before(10, "this is not Python")
    handed.before(10, "while True:\n    pass", tags=["demo"])
    handed.answer(10, "def times_10(x):\n    return x * factor()")
    handed.cells.reverse()
    return handed


SHUFFLED = ["wrong", "wrong", "right", "right", "wrong", "right", "missing", "missing", "empty", "right"]


def fatal(exercise: Path) -> Handed:
    """What ends kernels or would never end; see `FATAL`. The right answers come last, and build on each other."""
    handed = Handed(exercise)
    handed.answer(1, "def times_1(x):\n    while True:\n        try:\n            while True: pass\n"
                     "        except BaseException:\n            pass")  # fmt: skip
    handed.answer(2, "import os\ndef times_2(x):\n    os._exit(0)")
    handed.answer(3, "import os, signal\nfor process in (os.getppid(), os.getpid()):\n    try:\n"
                     "        os.kill(process, signal.SIGKILL)\n    except OSError:\n        pass")  # fmt: skip
    handed.answer(
        4,
        "import subprocess, sys, time\nfor number in range(100):\n"
        "    subprocess.Popen(['sleep', '601'], start_new_session=True, env={} if number % 2 else None)\n"
        "time.sleep(60)",
    )
    handed.answer(5, "def times_5(x):\n    while True:\n        print('y' * 100_000)")
    handed.answer(6, "def times_6(x):\n    return [bytearray(2**28) for _ in range(100)]")
    handed.before(8, "import time\ntime.sleep(60)\nlost = time.sleep(60)\ndef eight():\n    return 8")
    handed.answer(9, "def times_9(x):\n    return 9 * times_7(x) / 7")
    handed.answer(10, "exit()\n" + RIGHT.format(k=10))
    return handed


FATAL = ["timeout", "killed", "error", "processes", "timeout", "memory", "right", "right", "right", "right"]
