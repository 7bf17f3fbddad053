"""What each challenge asks of a submission, as plain values and one check of its cells' labels."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

import pandas as pd

PERTURBATION, CONTEXT = "target_gene", "context"


class Contract(Protocol):
    """One challenge's rules."""

    @property
    def name(self) -> str:
        """As the command line calls it."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The obs columns, and no others."""
        ...

    @property
    def genes(self) -> int:
        """Length of the gene list."""
        ...

    @property
    def largest_cell(self) -> int | None:
        """Largest total count of a cell."""
        ...

    @property
    def control(self) -> str | None:
        """Its label of control cells, where it takes them."""
        ...

    def faults(self, obs: pd.DataFrame, controls: tuple[str, ...]) -> Iterator[str]:
        """What is wrong with the cells' labels; each says what, and the way out."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vcc2026:
    """400 cells of every perturbation in every context, no controls."""

    name: str = "vcc2026"
    columns: tuple[str, ...] = (PERTURBATION, CONTEXT)
    genes: int = 18_533
    largest_cell: int | None = 1_000_000
    control: str | None = None
    cells: int = 400

    def faults(self, obs: pd.DataFrame, controls: tuple[str, ...]) -> Iterator[str]:
        """See `Contract`."""
        pairs = Counter(zip(obs[PERTURBATION], obs[CONTEXT], strict=True))
        untreated = sum(n for (target, _), n in pairs.items() if target in controls)
        if untreated:
            yield f"{untreated:,} control cells; there must be none. Leave them out: --drop-controls."
        pairs = {pair: n for pair, n in pairs.items() if pair[0] not in controls}
        wrong = sorted(pair for pair, n in pairs.items() if n != self.cells)
        if wrong:
            target, context = wrong[0]
            yield (
                f"{len(wrong):,} of {len(pairs):,} conditions have not exactly {self.cells} cells ({target} in "
                f"{context}: {pairs[wrong[0]]}). Sample them with n_cells {self.cells}."
            )
        targets, contexts = {target for target, _ in pairs}, {context for _, context in pairs}
        missing = sorted(pair for pair in itertools.product(targets, contexts) if pair not in pairs)
        if missing:
            target, context = missing[0]
            yield f"{len(missing):,} conditions are missing ({target} in {context}). Sample them."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vcc2025:
    """Any number of cells of each perturbation with controls beside them, 200,000 at most."""

    name: str = "vcc2025"
    columns: tuple[str, ...] = (PERTURBATION,)
    genes: int = 18_080
    largest_cell: int | None = None
    control: str | None = "non-targeting"
    most_cells: int = 200_000

    def faults(self, obs: pd.DataFrame, controls: tuple[str, ...]) -> Iterator[str]:
        """See `Contract`."""
        targets = set(obs[PERTURBATION])
        if len(obs) > self.most_cells:
            yield f"{len(obs):,} cells; at most {self.most_cells:,} are taken. Sample fewer per condition."
        if self.control not in targets:
            yield f"no control cells ({self.control!r}). Sample them with the perturbations."
        if targets == {self.control}:
            yield "controls only. Sample perturbations."


CONTRACTS: dict[str, Contract] = {contract.name: contract for contract in (Vcc2025(), Vcc2026())}
