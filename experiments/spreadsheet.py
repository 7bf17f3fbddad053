"""Tables for people who open them in a spreadsheet: text that it would take for a formula begins with an apostrophe."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


def harmless(value: Any) -> Any:
    """A cell of a table; numbers, and text that is one, stay as they are."""
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def harmless_table(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """A table with its columns' names, its index and its text so written."""
    import pandas as pd

    safe = {
        place: table.iloc[:, place]
        if pd.api.types.is_numeric_dtype(table.iloc[:, place])
        else table.iloc[:, place].astype(object).map(harmless)
        for place in range(table.shape[1])
    }
    index = pd.Index([harmless(label) for label in table.index], name=harmless(table.index.name))
    return pd.DataFrame(safe, index=table.index).set_axis(map(harmless, table.columns), axis=1).set_axis(index)
