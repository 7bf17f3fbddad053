"""Tables on standard output: every column whole, however narrow the terminal is."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def print_table(table: Table) -> None:
    """Print a table; where it is wider than the terminal, the terminal wraps its lines."""
    wide = Console(width=10_000)
    needed = Measurement.get(wide, wide.options, table).maximum
    Console(width=max(Console().width, needed), soft_wrap=True).print(table)


def score_text(metric: str, value: float | None) -> str:
    """A metric as a table shows it."""
    if value is None:
        return ""
    return f"{value:,.1f}" if "nats" in metric else f"{value:.3f}"
