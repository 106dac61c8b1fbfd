"""Plain tables of text: columns aligned, numbers to the right."""

from collections.abc import Mapping, Sequence


def format_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as lines of text under a header; the columns are the keys, in the order in which they first appear.

    Example:
        >>> from flowlib.plotting import format_table
        >>> print(format_table([{"samples": "test", "distance": 0.0}, {"samples": "w = 2", "distance": 0.12345}]))
        samples  distance
        -------  --------
        test            0
        w = 2      0.1235
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_text(row.get(column, "")) for column in columns] for row in rows]
    numeric = [all(not isinstance(row.get(column, 0), str) for row in rows) for column in columns]
    widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]

    def line(texts: Sequence[str]) -> str:
        aligned = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(texts, widths, numeric, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join([line(columns), line(["-" * width for width in widths]), *map(line, cells)])


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
