"""Tables on standard output: every column whole, however narrow the terminal is."""

from collections.abc import Iterable, Sequence


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; where it is wider than the terminal, the terminal wraps its lines."""
    lines = [tuple(columns), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print(" " + "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def score_text(metric: str, value: float | None) -> str:
    """A metric as a table shows it."""
    if value is None:
        return ""
    return f"{value:,.1f}" if "nats" in metric else f"{value:.3f}"
