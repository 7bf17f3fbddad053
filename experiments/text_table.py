"""csv tables that people write: every cell as text, and no row taken for what it is not."""

import pathlib
import warnings
from typing import TYPE_CHECKING

from data_pipelines.errors import InputError

if TYPE_CHECKING:
    import pandas


def read_text_table(path: pathlib.Path) -> "pandas.DataFrame":
    """A csv file, every value as text.

    Raises:
        InputError: it is no table, or a row has more values than there are columns.
    """
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas would leave the surplus out
            return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except pd.errors.ParserWarning:
        raise InputError(f"{path}: a row has more values than there are columns. Give each row as many.") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no csv table ({str(error).splitlines()[0]}).") from error
