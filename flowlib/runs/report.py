"""Measuring a run: its system's report, on the data that it learned and on data that it never saw."""

from collections.abc import Sequence
from typing import Any

from flowlib.data import available, open_data
from flowlib.runs.folder import read_record
from flowlib.runs.run import Run, RunError
from flowlib.systems.system import ReportRequest, Row, Splits


def evaluate_run(run: Run, *, data: Splits | None = None, **options: Any) -> Sequence[Row]:
    """A table of how good a run is: the rows of its system's report.

    Args:
        run: any run.
        data: of a run on data of your own, which have no name: what it learned, and data that it never saw.
        options: what the system's report takes: `samples`, `seed`, `batch_size`; for a flow also `scales`, `steps`,
            `method`, `likelihood` (see `flowlib.systems.reporting.FlowReport`).

    Raises:
        ValueError: for an argument that does not fit, naming it; a RunError if the data have changed since the run was
            trained; a DataError if they cannot be had.
        TypeError: for an option that the system does not take.

    Example:
        >>> from flowlib.data import load
        >>> from flowlib.runs import evaluate_run, load_pretrained
        >>> from flowlib.systems import Splits
        >>> data = Splits(load("scenes").first(1), load("scenes", "test").first(50))  # else all
        >>> rows = evaluate_run(load_pretrained("judge"), data=data, samples=50)
        >>> rows[0]["scenes"], rows[0]["digit"] > 0.9  # the share of digits that is read right
        ('as they are', True)
    """
    system: Any = run.recipe.system
    kind = getattr(system, "Reporting", ReportRequest)
    request = kind(spec=run.spec, usual=run.recipe.training.precision, **options)
    if data is None:
        name = run.recipe.data
        data = Splits(open_data(name, "train").finite(), open_data(name, "test").finite())
        if name not in available() and read_record(run.folder).digest != data.train.digest():
            raise RunError(f"the data of the run in {run.folder} have changed since: {name} is not what it was")
    return system.report(run.module, data, run.parts, request)
