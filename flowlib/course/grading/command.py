"""The command `flowlib grade`."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flowlib.course.grading.grade import Graded, Task
    from flowlib.course.grading.sandbox import Limits


def grade(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Notebooks, or folders of them.")],
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write all, as JSON.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Also write a JUnit report.")] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write a line for each submission, as CSV.")
    ] = None,
    hidden: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help='Your own tests: NN_topic.py with cells marked check="NN.k".'),
    ] = None,
    points: Annotated[
        Path | None, typer.Option(metavar="FILE", help='Other points: TOML, "01.2" = 3, or JSON, {"01.2": 3}.')
    ] = None,
    exercise: Annotated[
        str | None, typer.Option(metavar="NAME", help="The exercise that was set; another scores nothing.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Solutions to grade by, instead of the course's own.")
    ] = None,
    tables: Annotated[
        bool | None, typer.Option(help="Print a table for each submission; by default where there is one.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Submissions at a time.", min=1)] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds for a cell.", min=1)] = 60.0,
    total: Annotated[float, typer.Option(help="Seconds for a submission.", min=1)] = 900.0,
    memory: Annotated[float, typer.Option(help="Gigabytes for a submission.", min=0.25)] = 4.0,
) -> None:
    """Grade exercises: which questions are right, which are wrong and why.

    Checks and points are the course's, whatever the notebook says of them. Each submission runs in a process of its
    own, with limits; what it prints does not count. Of several, a summary is printed: a line for each, and how often
    each question was right. The exit status is 0 at full marks, 1 for fewer, 2 if nothing can be graded.

    \b
    Examples:
      flowlib grade exercises/01_flows_and_diffusions.ipynb
      flowlib grade submissions/ --jobs 4 --csv class.csv --json grades.json
      flowlib grade submissions/ --hidden my_tests/ --points points.toml
    """
    import contextlib
    import importlib.util

    from tqdm import tqdm

    from flowlib.checks import check_number
    from flowlib.course.grading import gradebook, sandbox
    from flowlib.course.grading.grade import grade_all
    from flowlib.course.grading.outputs import Outputs
    from flowlib.course.grading.world import warning
    from flowlib.course.processes import ended_by_signals

    if importlib.util.find_spec("IPython") is None or importlib.util.find_spec("psutil") is None:
        raise ValueError("grading needs more packages: pip install 'flowlib[course]'")
    if sys.platform == "win32":
        raise ValueError("grading needs Linux or macOS; on Windows use it in WSL")
    for name, value in (("--memory", memory), ("--timeout", timeout), ("--total", total)):
        if value is not None:
            check_number(name, value)
    limits = sandbox.Limits(seconds=timeout, total=total, memory=int(memory * 2**30), without=sandbox.without())
    paths = {"--json": json, "--junit": junit, "--csv": csv}
    tasks = _tasks(files, paths, hidden=hidden, points=points, exercise=exercise, reference=reference, limits=limits)
    outputs = Outputs(paths, [task.submission.path for task in tasks] + [path for path in (points,) if path])
    order = {(task.submission.student, task.submission.path): number for number, task in enumerate(tasks)}
    grades: list[Graded] = []
    several, warned = len(tasks) > 1, False
    found = grade_all(tasks, limits=limits, jobs=jobs)
    try:
        with ended_by_signals(), contextlib.closing(found):
            for graded in tqdm(found, total=len(tasks), unit="submission", disable=None if several else True):
                if sandbox.LACKING and not warned:
                    warned = True
                    tqdm.write(f"flowlib: {warning(sandbox.LACKING)}", file=sys.stderr)
                if tables or (tables is None and not several):
                    tqdm.write(("\n" if grades else "") + gradebook.as_table(graded))
                grades.append(graded)
                grades.sort(key=lambda entry: order[entry.student, entry.path])
                outputs.write(grades)
    finally:  # after Ctrl-C too
        problem = outputs.write(grades) if grades else None
        if several and grades:
            typer.echo(("\n" if tables else "") + gradebook.as_summary(grades))
    if problem is not None:
        raise problem
    if any(graded.points < graded.possible or not graded.verdicts for graded in grades):
        raise typer.Exit(1)


def _tasks(
    files: Sequence[Path],
    paths: "dict[str, Path | None]",
    *,
    hidden: Path | None,
    points: Path | None,
    exercise: str | None,
    reference: Path | None,
    limits: "Limits",
) -> "list[Task]":
    """What is to be graded, and by what.

    Raises:
        ValueError: for a bad option, or if no file can be graded; then it says what is wrong with the first.
    """
    from flowlib.checks import check_choice
    from flowlib.course.grading import reference as references
    from flowlib.course.grading.grade import Task
    from flowlib.course.grading.hidden import tried, with_hidden_tests
    from flowlib.course.grading.outputs import Outputs
    from flowlib.course.grading.submission import exercise_of, find_submissions, read_submission

    folder = reference or references.FOLDER
    if hidden is not None and not hidden.is_dir():
        raise ValueError(f"--hidden must be a folder, got {hidden}")
    names = list(references.references(folder))
    if not names:
        raise ValueError(f"{folder}: no notebooks to grade by")
    known = {name: references.load_reference(name, folder) for name in names}
    plain = known
    if hidden is not None:
        known = with_hidden_tests(known, hidden)
    if points is not None:
        given = references.read_points(points)
        for question in given:
            check_choice("points", question, [q.name for entry in known.values() for q in entry.questions])
        known = {name: references.with_points(entry, given) for name, entry in known.items()}
    if exercise is not None:
        check_choice("exercise", exercise, names)
    solutions = {
        name: frozenset(grade_id for question in entry.questions for grade_id in question.answers)
        for name, entry in known.items()
    }
    tasks = []
    Outputs(paths, [path for _, path in find_submissions(files)])  # before anything runs
    for student, path in find_submissions(files):
        submission = read_submission(student, path, found=path not in files)
        name, problem = exercise_of(submission, solutions, exercise)
        tasks.append(Task(submission, known[name] if name else None, problem))
    if all(task.reference is None or task.submission.problem for task in tasks):
        first = tasks[0]
        raise ValueError(f"{first.submission.path}: {first.submission.problem or 'it is no exercise of this course'}")
    if hidden is not None:
        asked = {task.reference.name for task in tasks if task.reference is not None}
        known |= {name: tried(known[name], plain[name], folder, limits) for name in asked}
        tasks = [replace(task, reference=task.reference and known[task.reference.name]) for task in tasks]
    return tasks
