"""Are wrong answers caught, each with a hint of its own, and right ones let pass?

Beside a solution lies a bank of answers, `NN_topic_answers.py`, whose cells stand in for the solution's cell:

    # %% wrong="01.2" hint="a part of the message that only this mistake gets"
    # %% right="01.2" name="vectorised"

Each is tried in a namespace of its own, with set-up and reference solutions around it. Besides, each check is run with
all other questions unanswered: a check may not depend on another question; and answers that are wrong everywhere are
tried on it (`universal`), which must not pass, whatever they get as a hint.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowlib.course.authoring.layout import SOLUTIONS, sources
from flowlib.course.authoring.pool import Outcome, try_all
from flowlib.course.authoring.questions import read_questions
from flowlib.course.authoring.source import Cell, SourceError, read_cells
from flowlib.course.authoring.universal import LEGITIMATE, universal

SECONDS = 60.0  # for one answer; checks take under three
KEYS = ("wrong", "right", "hint", "name")


@dataclass(frozen=True)
class Answer:
    """An answer of a bank.

    Attributes:
        question: such as "01.2".
        kind: "wrong"; "right"; "reference", the solution with every other question unanswered; "universal".
        label: a wrong answer's hint, a right one's name.
        code: what stands in the solution's cell.
        line: in the bank, or of the check for the reference.
    """

    question: str
    kind: str
    label: str
    code: str
    line: int


@dataclass
class Verdict:
    """What became of an answer: `fault` says why it is not as it should be, and is empty if it is."""

    answer: Answer
    outcome: Outcome
    fault: str


def read_answers(path: Path, cells: list[Cell]) -> list[Answer]:
    """The bank that belongs to the solution at `path`, with its reference answers.

    Raises:
        SourceError: for an answer of another form, or to a question that is not in the solution.
        OSError: if there is no bank.
    """
    bank = path.with_name(f"{path.stem}_answers.py")
    names = [question.name for question in read_questions(path, cells)]
    answers = [
        Answer(str(cell.question), "reference", "alone", _solution(cells, str(cell.question)), cell.line)
        for cell in cells
        if cell.mark == "check"
    ]
    for check in list(answers):
        for label, code in universal(check.code):
            if (check.question, label) not in LEGITIMATE:
                answers.append(Answer(check.question, "universal", label, code, check.line))
    for cell in read_cells(bank, KEYS):
        if not cell.metadata:
            continue  # the file's docstring
        kind, label = ("wrong", "hint") if "wrong" in cell.metadata else ("right", "name")
        if set(cell.metadata) != {kind, label} or not cell.metadata[label]:
            raise SourceError(bank, cell.line, 'an answer is wrong="01.2" hint="..." or right="01.2" name="..."')
        question = cell.metadata[kind]
        if question not in names:
            raise SourceError(bank, cell.line, f"there is no question {question!r}; there are {', '.join(names)}")
        answers.append(Answer(question, kind, cell.metadata[label], cell.source, cell.line))
    return answers


def program(cells: list[Cell], answer: Answer) -> list[tuple[str, str]]:
    """The cells to run for an answer, as (what it is, code); the last is its question's check."""
    steps = []
    for cell in cells:
        if cell.kind != "code" or cell.mark == "hints" or "demo" in cell.tags:
            continue
        name = f"cell at line {cell.line}"
        if cell.mark is None:
            steps.append((name, cell.source))
        elif cell.question == answer.question:
            steps.append(("check", cell.source) if cell.mark == "check" else ("answer", answer.code))
            if cell.mark == "check":
                break
        elif cell.mark == "solution" and answer.kind != "reference":
            steps.append((name, cell.source))
    return steps


def judge(path: Path, *, seconds: float = SECONDS, interrupted: threading.Event | None = None) -> list[Verdict]:
    """Try all answers to the exercise whose solution is at `path`.

    Args:
        path: of the solution's source.
        seconds: that an answer may take.
        interrupted: ends the work when it is set.

    Raises:
        SourceError: if solution or bank break a rule.
        CancelledError: if it is interrupted.
    """
    cells = read_cells(path)
    answers = read_answers(path, cells)
    outcomes = try_all([program(cells, answer) for answer in answers], path.parent, seconds, interrupted)
    return [
        Verdict(answer, outcome, _fault(answer, outcome, answers))
        for answer, outcome in zip(answers, outcomes, strict=True)
    ]


def try_bank(path: Path, interrupted: threading.Event | None = None) -> tuple[list[dict[str, object]], list[str]]:
    """`judge`, as a table, and a line for each answer that did not end as it should."""
    verdicts = judge(path, interrupted=interrupted)
    return table(path.stem, verdicts), list(explain(path, verdicts))


def table(name: str, verdicts: list[Verdict]) -> list[dict[str, object]]:
    """A row for each question: the wrong answers caught and the right ones passed, of those planted."""
    rows: list[dict[str, object]] = []
    for question in dict.fromkeys(verdict.answer.question for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.answer.question == question]
        rows.append({"notebook": name, "question": question, "wrong, caught": _share(own, "wrong")})
        rows[-1] |= {"right, passed": _share(own, "right"), "alone": _share(own, "reference")}
        rows[-1] |= {"universal, caught": _share(own, "universal")}
    return rows


def banks(root: Path, names: Sequence[str] = ()) -> list[Path]:
    """The sources of solutions that have a bank: all, or those that have one of the names.

    Raises:
        ValueError: if a name is that of no source.
    """
    solutions = [path for path in sources(root, names) if path.parent.name == SOLUTIONS]
    return [path for path in solutions if path.with_name(f"{path.stem}_answers.py").exists()]


def explain(path: Path, verdicts: list[Verdict]) -> Iterator[str]:
    """A line for each answer that is not as it should be."""
    for verdict in verdicts:
        answer = verdict.answer
        file = path.name if answer.kind in ("reference", "universal") else f"{path.stem}_answers.py"
        if verdict.fault:
            yield f"{file}:{answer.line}: {answer.kind} {answer.question} ({answer.label}): {verdict.fault}"


def _fault(answer: Answer, outcome: Outcome, answers: list[Answer]) -> str:
    said = f"{outcome.error}: {outcome.message} (in the {outcome.place})" if outcome.error else "passes"
    if answer.kind == "universal":
        return "" if outcome.error else "passes"
    if answer.kind != "wrong":
        return said if outcome.error else ""
    if (outcome.error, outcome.place) != ("AssertionError", "check"):
        return said
    if answer.label not in outcome.message:
        return f"gets another hint: {outcome.message}"
    others = [other for other in answers if (other.question, other.kind) == (answer.question, "wrong")]
    shared = [other.line for other in others if other is not answer and other.label in outcome.message]
    return f"shares its hint with the answer at line {shared[0]}: {outcome.message}" if shared else ""


def _share(verdicts: list[Verdict], kind: str) -> str:
    own = [verdict for verdict in verdicts if verdict.answer.kind == kind]
    return f"{sum(not verdict.fault for verdict in own)} / {len(own)}"


def _solution(cells: list[Cell], question: str) -> str:
    return next(c.source for c in cells if (c.mark, c.question, c.kind) == ("solution", question, "code"))
