"""One text written in several ways: with stray spaces, in capitals. To a tokenizer that keeps them, each is another.

People write so, and captions of the web too; a model of captions writes always in one way. A painter that has learned
only from the latter meets other texts than it knows (Betker et al. 2023, on blending).
"""

from collections.abc import Callable, Mapping

from flowlib.checks import check_choice

STYLES: Mapping[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "leading space": lambda text: " " + text,
    "stray spaces": lambda text: text.replace(" ", "  "),
    "first capital": lambda text: text[:1].upper() + text[1:],
    "capitals": str.upper,
    "full stop": lambda text: text + ".",
}
ODD = tuple(STYLES)[1:]


def restyle(text: str, style: str) -> str:
    """The text written in one of `STYLES`; a ValueError for another.

    Example:
        >>> [restyle("a red seven", style) for style in ("leading space", "first capital", "full stop")]
        [' a red seven', 'A red seven', 'a red seven.']
    """
    return STYLES[check_choice("style", style, STYLES)](text)
