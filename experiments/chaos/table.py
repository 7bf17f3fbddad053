"""The table of faults: printed, and kept in the page on reliability."""

import pathlib

from experiments.chaos.suite import Tally
from experiments.chaos.trial import TOO_LATE

BEGIN, END = "<!-- chaos begins -->", "<!-- chaos ends -->"


def as_table(tally: Tally) -> str:
    """A Markdown table: fault, scenario, times, what happened, violated."""
    rows = ["| fault | of | times | what happened | violated |", "|---|---|---|---|---|"]
    for (fault, scenario), found in sorted(tally.happened.items()):
        injected = found.total() - found[TOO_LATE]
        what = ", ".join(
            f"{kind} {times}" for kind, times in sorted(found.items()) if kind not in (TOO_LATE, "violated")
        )
        rows.append(f"| {fault} | {scenario} | {injected} | {what} | {found['violated']} |")
    rows.append(f"| **all** | | **{tally.injected}** | | **{len(tally.violations)}** |")
    return "\n".join(rows)


def write_into(page: pathlib.Path, table: str, caption: str) -> None:
    """Replace what lies between the markers of a page.

    Raises:
        ValueError: it has no markers.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN} and {END} to write between")
    page.write_text(f"{before}{BEGIN}\n\n{caption}\n\n{table}\n\n{END}{after}")
