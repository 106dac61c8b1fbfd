"""What counts how much: Disco Diffusion's prompts, "a red seven:2" and "blue:-0.5", and files, "sketch.png:0.8"."""

import math
from collections.abc import Sequence
from typing import NamedTuple

LARGEST = 1e30  # of a weight: the sum of several is a number still


class Prompt(NamedTuple):
    """What is asked for, a text or the path of a picture, and how much it counts."""

    what: str
    weight: float


def parse_prompt(text: str) -> Prompt:
    """A prompt and the weight behind its last colon, 1 where there is no colon.

    Raises:
        ValueError: for an empty prompt, or what stands behind the colon and is no number, or one beyond 1e30.

    Example:
        >>> parse_prompt("a red seven:2"), parse_prompt("a blue two")
        (Prompt(what='a red seven', weight=2.0), Prompt(what='a blue two', weight=1.0))
    """
    what, colon, behind = text.rpartition(":")
    if not colon:
        what, behind = text, "1"
    try:
        weight = float(behind)
    except ValueError:
        weight = math.nan
    if not abs(weight) <= LARGEST:
        raise ValueError(f"the weight of a prompt must be a number behind its last colon, got {behind!r} in {text!r}")
    if not what.strip():
        raise ValueError(f"a prompt must not be empty: say what to paint, such as 'a red seven:2', got {text!r}")
    return Prompt(what.strip(), weight)


def split_number(text: str) -> tuple[str, float]:
    """A file and the number behind its last colon, 1 where there is none; a file may have colons of its own.

    Example:
        >>> split_number("sketch.png:0.8"), split_number("zoo:lora-striped"), split_number("a:b.png:2")
        (('sketch.png', 0.8), ('zoo:lora-striped', 1.0), ('a:b.png', 2.0))
    """
    name, _, behind = text.rpartition(":")
    try:
        number = float(behind)
    except ValueError:
        return text, 1.0
    return (name, number) if name else (text, 1.0)  # without a name, it is a file that is called like a number


def parse_prompts(texts: Sequence[str]) -> list[Prompt]:
    """Prompts whose weights are divided by the absolute value of their sum, as Disco Diffusion does.

    So a sum of 1, or -1 where more is avoided than asked for, is left, whatever the numbers were.

    Raises:
        ValueError: for no prompt at all, one that `parse_prompt` refuses, or weights whose sum is 0.

    Example:
        >>> [prompt.weight for prompt in parse_prompts(["a red seven:2", "blue:-0.5"])]
        [1.3333333333333333, -0.3333333333333333]
    """
    prompts = [parse_prompt(text) for text in texts]
    if not prompts:
        raise ValueError("prompts must be given, such as 'a red seven:2'")
    total = abs(sum(prompt.weight for prompt in prompts))
    if total < 1e-3:  # Disco Diffusion's own bound
        said = ", ".join(f"{prompt.weight:g}" for prompt in prompts)
        raise ValueError(f"the weights of prompts must not sum to 0, got {said}")
    return [Prompt(prompt.what, prompt.weight / total) for prompt in prompts]
