r"""Formulas of docstrings, typed as plain text, as LaTeX: "beta_t^2 eps_hat" becomes $\beta_t^2\,\hat\varepsilon$.

Docstrings are read in an editor too, so their formulas are written in letters. The API reference shows them as the
lectures do. What is taken for a formula is a run of symbols, numbers and signs without a word between them that holds
at least one name, power or index which no prose has; in backticks, one that holds nothing else. The rest stays.
"""

import re

GREEK = {
    "alpha": r"\alpha", "beta": r"\beta", "gamma": r"\gamma", "delta": r"\Delta", "eps": r"\varepsilon",
    "eta": r"\eta", "theta": r"\theta", "lambda": r"\lambda", "mu": r"\mu", "rho": r"\rho", "sigma": r"\sigma",
    "tau": r"\tau", "phi": r"\varphi", "omega": r"\omega", "pi": r"\pi",
}  # fmt: skip
WORDS = {"grad": r"\nabla", "log": r"\log", "exp": r"\exp", "cos": r"\cos", "sin": r"\sin", "sqrt": r"\sqrt"}
TEXTS = ("data", "min", "max")  # indices that are words
SIGNS = {"->": r"\to", "<=": r"\le", ">=": r"\ge", "!=": r"\ne", "~": r"\sim", "|": r"\mid ", "*": r"\cdot "}

# A name goes on with indices ("_t", "_hat") but not with a word: what is called `log_prob` is code.
TOKEN = re.compile(
    rf"(?P<name>(?:d?(?:{'|'.join(GREEK)})|{'|'.join(WORDS)}|d?[A-Za-z])(?:_(?:hat|bar|data|min|max|theta|[a-z0-9]))*(?![A-Za-z0-9_])'?)"
    r"|(?P<power>\^(?:-?\w+|\((?:[^()]*)\)))|(?P<number>\d+(?:\.\d+)?(?!\w|\.\d))|(?P<sign>->|<=|>=|!=|[=+\-/|<>~*])"
    r"|(?P<open>[(\[])|(?P<close>[)\]])|(?P<comma>,)|(?P<space>[ \n]+)"
)
STRONG = re.compile(rf"(?:{'|'.join(GREEK)})|_|\^|grad|E\[")


def latex(text: str) -> str | None:
    """A formula as LaTeX; None if the text is not made of symbols, numbers and signs alone."""
    out, at, bars = [], 0, _bars(text)
    while at < len(text):
        token = TOKEN.match(text, at)
        if token is None:
            return None
        star = token[0] == "*" and text[token.end() : token.end() + 1] in ("|", ")", "]")  # the best one, "p*"
        out.append("^{*}" if star else bars.get(at) or _piece(token))
        at = token.end()
    return re.sub(r"\s+", " ", _roots("".join(out))).strip()


def _bars(text: str) -> dict[int, str]:
    """Where bars are those of a norm, which come in pairs between the same brackets; a single one is "given"."""
    groups: list[list[int]] = [[]]
    found = {}
    for at, letter in enumerate(text + ")"):
        if letter in "([":
            groups.append([])
        elif letter == "|":
            groups[-1].append(at)
        elif letter in ")]":
            group = groups.pop() if groups else []
            if len(group) % 2 == 0:
                found |= {place: r"\rvert " if i % 2 else r"\lvert " for i, place in enumerate(group)}
    return found


def _roots(text: str) -> str:
    r"""The same with \sqrt {...} for \sqrt (...), and the letters that lectures use for laws and means."""
    text = re.sub(r"(?<![A-Za-z\\])N (?=\()", r"\\mathcal N", re.sub(r"(?<![A-Za-z\\])E (?=\[)", r"\\mathbb E", text))
    while (root := text.find(r"\sqrt (")) >= 0:
        begin = end = root + len(r"\sqrt (")
        depth = 1
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        text = text[:root] + r"\sqrt{" + text[begin : end - 1] + "}" + text[end:]
    return text


def _piece(token: re.Match[str]) -> str:
    text = token[0]
    if token["name"]:
        return _name(text)
    if token["power"]:
        inner = text[1:].removeprefix("(").removesuffix(")")
        return f"^{{{latex(inner) or inner}}}"
    if token["sign"]:
        return SIGNS.get(text, text)
    return " " if token["space"] else text


def _name(text: str) -> str:
    prime, parts = text.endswith("'"), text.rstrip("'").split("_")
    base = parts[0]
    differential = base.startswith("d") and len(base) > 1 and base not in GREEK
    core = base[1:] if differential else base
    symbol = WORDS.get(core) or GREEK.get(core, core)
    for mark in parts[1:]:
        symbol = rf"\{mark} {{{symbol}}}" if mark in ("hat", "bar") else symbol
    symbol = rf"\dot {{{symbol}}}" if prime else symbol
    marks = [mark for mark in parts[1:] if mark not in ("hat", "bar")]
    index = ",".join(rf"\text{{{mark}}}" if mark in TEXTS else GREEK.get(mark, mark) for mark in marks)
    return (r"\mathrm d" if differential else "") + symbol + (f"_{{{index}}}" if index else "") + " "


def runs(text: str) -> list[tuple[int, int]]:
    """Where in a piece of prose formulas begin and end."""
    found, at = [], 0
    while at < len(text):
        if at and (text[at - 1].isalnum() or text[at - 1] in "_^.'\"-`"):
            at += 1  # inside a word
            continue
        end = _run(text, at)
        part = text[at:end]
        if STRONG.search(part) and latex(part) is not None:
            found.append((at, end))
            at = end
        else:
            at += 1
    return found


def _run(text: str, start: int) -> int:
    """The end of the longest balanced run of tokens from `start` that ends with a symbol and begins with one."""
    at, depth, bars, best, first = start, 0, 0, start, True
    while (token := TOKEN.match(text, at)) is not None:
        if token["comma"] and depth == 0:
            break
        if first and not (token["name"] or token["open"] or token["number"] or token[0] == "|"):
            break
        if token["name"] and token[0] in ("a", "A", "I") and depth == 0:
            break  # most likely a word
        depth += bool(token["open"]) - bool(token["close"])
        bars += token[0] == "|" and depth == 0
        if depth < 0:
            break
        at, first = token.end(), False
        ends = token["name"] or token["power"] or token["number"] or token["close"] or token[0] == "|"
        if ends and depth == 0 and bars % 2 == 0:
            following = text[at : at + 1]
            if not (following.isalnum() or following in ("_", "'", "`", '"', "%")) and not re.match(r"\.\w", text[at:]):
                best = at
    return best


def to_rst(text: str) -> str:
    """A paragraph's prose as reStructuredText: formulas as such, code as it is, everything else without a meaning."""
    out = ""
    for i, part in enumerate(re.split(r"(``[^`]+``|`[^`]+`)", text)):
        if i % 2:
            inner = part.strip("`")
            formula = latex(inner) if STRONG.search(inner) and re.search(r"[ ^|(']", inner) else None
            out = _join(out, f":math:`{formula}`" if formula else f"``{inner}``")
            continue
        at = 0
        for begin, end in runs(part):
            out = _join(_join(out, _escape(part[at:begin])), f":math:`{latex(part[begin:end])}`")
            at = end
        out = _join(out, _escape(part[at:]))
    return out


def _join(left: str, right: str) -> str:
    """Markup and text side by side: where no sign or space parts them, an escaped space does, which prints nothing."""
    after = left.endswith("`") and re.match(r"[^\s'\")\]}>\-/:.,;!?]", right)
    before = right.startswith((":math:", "``")) and re.search(r"[^\s'\"(\[{<\-/:]$", left)
    return left + ("\\ " if after or before else "") + right


def _escape(text: str) -> str:
    return re.sub(r"[*|\\]|(?<=\w)_(?!\w)", r"\\\g<0>", text)


_FIELD = re.compile(r"\s*[\w*]+(?:, [\w*]+)*: ")
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Example|Examples|Source):$")


def docstring(lines: list[str]) -> list[str]:
    """A docstring's lines with its prose as reStructuredText; examples, code and the names of fields are left alone."""
    done, outer, kind, waiting = [], "", "prose", ""
    for line in lines:
        if not line.strip():
            done.append(line)
            kind = "prose" if kind == "example" else kind
            continue
        indented = line.startswith("    ")
        if not indented:
            outer, kind = line, "prose"
        if line.lstrip().startswith(">>>"):
            kind = "example"
        elif indented and kind == "prose" and not done[-1].strip() and not _SECTION.match(outer):
            kind = "code"
            done += ["::", ""]
        if kind != "prose" or _SECTION.match(line):
            done.append(line)
            continue
        line, waiting = waiting + (line.lstrip() if waiting else line), ""
        if line.count("`") % 2:  # a formula that goes on in the next line
            waiting = line.rstrip() + " "
            continue
        begin = field.end() if (field := _FIELD.match(line)) else len(line) - len(line.lstrip())
        done.append(line[:begin] + to_rst(line[begin:]))
    return done + ([waiting] if waiting else [])
