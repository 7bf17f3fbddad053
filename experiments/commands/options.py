"""Options that several commands share."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Annotated

from tyro.constructors import PrimitiveConstructorSpec

from experiments.storage import folder_at

if TYPE_CHECKING:
    from data_pipelines import Columns

DEFAULT_RUNS = pathlib.Path("runs")
if TYPE_CHECKING:
    from experiments.storage import Folder as Place
else:
    Place = Annotated[
        pathlib.PurePath,
        PrimitiveConstructorSpec(
            nargs=1,
            metavar="FOLDER|URL",
            instance_from_str=lambda texts: folder_at(texts[0]),
            is_instance=lambda value: isinstance(value, pathlib.PurePath),
            str_from_instance=lambda folder: [str(folder)],
        ),
    ]
"""An option that takes a path or a gs:// or s3:// URL."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnOptions:
    """What the obs columns mean. Lists are separated by commas."""

    context: str = ""
    """Context columns: cell line, cell type, donor, ..."""
    perturbation: str | None = None
    """Perturbation column."""
    control: str = ""
    """Labels of the perturbation column that are controls."""
    batch: str | None = None
    """Batch, replicate or lane column."""
    numbers: str = ""
    """Columns of numbers that condition too: dose, time. A request for cells may leave them out."""

    def given(self) -> bool:
        """Was any of them set?"""
        return self != ColumnOptions()

    def columns(self) -> "Columns":
        """The columns as the data pipelines take them."""
        from data_pipelines import Columns

        def parts(text: str) -> tuple[str, ...]:
            return tuple(part.strip() for part in text.split(",") if part.strip())

        return Columns(
            context=parts(self.context),
            perturbation=self.perturbation,
            control=parts(self.control),
            batch=self.batch,
            numbers=parts(self.numbers),
        )


def runs_arguments(runs: Place) -> list[str]:
    """`--runs FOLDER` for the next command, where it is not the default."""
    return [] if runs == DEFAULT_RUNS else ["--runs", str(runs)]
