"""Where a text is cut before its pieces are joined: at the edges of words, over which no token goes."""

import re

WORD = re.compile(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)+|\s+(?!\S)|\s+")


def split_words(text: str) -> list[str]:
    """A text cut into words, which together are the text again.

    A word is a run of letters, of digits or of other signs, with one space before it if there is one. What white space
    is left is a word of its own. It is the rule of GPT-2 (Radford et al. 2019) without its list of English endings such
    as "'ll". Letters are what Python counts as alphanumeric without decimal digits.

    Example:
        >>> split_words("a red  7!")
        ['a', ' red', ' ', ' 7', '!']
    """
    return WORD.findall(text)
