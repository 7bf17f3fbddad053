"""Which gene of a panel a file means: by its id, without version, by an alias, or by case."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data_pipelines.errors import InputError

# g genes of one source, G genes of a panel

_VERSIONED = re.compile(r"^(ENS[A-Z]*\d{11})\.\d+((?:_PAR_Y)?)$")
INDEX = "index"
"""Name of the gene table's own index among its columns of ids."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneTable:
    """The genes of one source, in the order of its columns."""

    name: str
    """Of the source, for messages."""
    ids: Mapping[str, tuple[str, ...]]
    """Column name -> ids (g,); the first column is the table's index."""
    used: np.ndarray
    """bool (g,): False for features that are no genes (antibodies, guides)."""

    @property
    def index(self) -> tuple[str, ...]:
        return next(iter(self.ids.values()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneRules:
    """How ids are compared."""

    column: str | None = None
    """Column of the gene tables that holds the ids; None finds it."""
    option: str = "--genes.column"
    """What messages call the option of `column`."""
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    """Other names of genes -> the name in the panel."""
    duplicates: str = "refuse"
    """Columns that mean the same gene: 'refuse', or 'sum' their counts."""
    ignore_case: bool = False
    """Accept that most genes agree in all but case. A few may do so anyway."""
    min_mapped: float = 0.1
    """Least share of the source's genes, or of the panel's where those are fewer, that must be found: 0..1."""

    def __post_init__(self) -> None:
        if self.duplicates not in ("refuse", "sum"):
            raise InputError(f"duplicate genes can be refused or summed (--genes.duplicates), not {self.duplicates!r}.")
        if not 0 <= self.min_mapped <= 1:
            raise InputError(f"--genes.min-mapped must lie in 0..1, got {self.min_mapped}.")


@dataclasses.dataclass(frozen=True)
class Matched:
    """Where one source's genes lie in a panel."""

    positions: np.ndarray
    """int32 (g,): -1 for genes that the panel lacks."""
    by_case: int
    """How many were found by ignoring case alone."""


class Names:
    """Genes by name; grows as genes are added."""

    def __init__(self, genes: Iterable[str], aliases: Mapping[str, str]) -> None:
        self.genes: list[str] = []
        self._exact: dict[str, int] = {}
        self._plain: dict[str, int] = {}
        self._folded: dict[str, int] = {}
        self._aliases = {**aliases, **{name.casefold(): gene for name, gene in aliases.items()}}
        for gene in genes:
            self.add(gene)

    def add(self, gene: str) -> int:
        """Append a gene and return its position."""
        position = self._exact[gene] = len(self.genes)
        self.genes.append(gene)
        plain = without_version(gene)
        # Names that more than one gene could mean are nobody's: -1.
        for names, name in ((self._plain, plain), (self._folded, plain.casefold())):
            names[name] = -1 if name in names else position
        return position

    def find(self, gene: str) -> tuple[int, bool]:
        """(position or -1, whether only case differs)."""
        if gene in self._exact:
            return self._exact[gene], False
        alias = self._aliases.get(gene, self._aliases.get(gene.casefold()))
        if alias in self._exact:
            return self._exact[alias], False
        plain = without_version(alias or gene)
        if self._plain.get(plain, -1) >= 0:
            return self._plain[plain], False
        position = self._folded.get(plain.casefold(), -1)
        return position, position >= 0

    def match(self, ids: Sequence[str], used: np.ndarray) -> Matched:
        """Find ids (g,); those not `used` are not looked for.

        A name that differs in case gives way to one that does not (C1orf220 beside C1ORF220), and to a second like it.
        """
        found = [self.find(gene) if use else (-1, False) for gene, use in zip(ids, used, strict=True)]
        claims = Counter(place for place, _ in found)
        kept = [(-1, False) if case and claims[place] > 1 else (place, case) for place, case in found]
        return Matched(np.array([place for place, _ in kept], np.int32), sum(case for _, case in kept))


def without_version(gene: str) -> str:
    """ENSG00000141510.18 -> ENSG00000141510; other names as they are, without blanks around them."""
    gene = gene.strip()
    found = _VERSIONED.match(gene)
    return found[1] + found[2] if found else gene


def duplicates(genes: Sequence[str]) -> list[str]:
    """Names that occur more than once, in order of first occurrence."""
    return [gene for gene, count in Counter(genes).items() if count > 1]


def id_column(table: GeneTable, rules: GeneRules, panel: Names | None) -> str:
    """Which column of a gene table to read: the one asked for, the one that finds most of the panel, or the index.

    Raises:
        InputError: there is no such column.
    """
    columns = list(table.ids)
    if rules.column is not None:
        if rules.column not in (*columns, INDEX):
            raise InputError(
                f"{table.name} has no gene column {rules.column!r} (present: {', '.join(columns)}). "
                f"Choose with {rules.option}."
            )
        return columns[0] if rules.column == INDEX else rules.column
    if panel is not None and panel.genes:
        found = [int((panel.match(table.ids[name], table.used).positions >= 0).sum()) for name in columns]
        return columns[int(np.argmax(found))]  # the index among equals: it is the first
    unique = [name for name in columns if not duplicates(_used(table, name))]
    return unique[0] if unique else columns[0]


def _used(table: GeneTable, column: str) -> list[str]:
    return [gene for gene, use in zip(table.ids[column], table.used, strict=True) if use]


def check_unique(table: GeneTable, ids: Sequence[str], positions: np.ndarray, rules: GeneRules) -> None:
    """Require that no two columns mean one gene, unless their counts are to be summed.

    Raises:
        InputError: otherwise.
    """
    taken = positions[positions >= 0]
    if rules.duplicates == "sum" or len(np.unique(taken)) == len(taken):
        return
    counted = np.bincount(taken)
    twice = list(
        dict.fromkeys(gene for gene, place in zip(ids, positions, strict=True) if place >= 0 and counted[place] > 1)
    )
    some = ", ".join(twice[:3]) + (", ..." if len(twice) > 3 else "")
    how = " with --genes.duplicates sum" if rules.option == GeneRules.option else " first"
    raise InputError(
        f"{table.name} has {len(twice)} duplicate gene names ({some}). Sum their counts{how}, or name a column of "
        f"unique ids with {rules.option}."
    )
