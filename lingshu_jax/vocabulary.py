"""What the model's axes mean: the gene panel and the condition labels, as plain, hashable, JSON-serialisable values."""

import dataclasses
import difflib
import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

FieldKind = Literal["category", "perturbation"]
NULL_ROW = 0
"""Embedding row of a field that is left out."""
CONTROL_ROW = 1
"""Embedding row of the control label; only a perturbation field has one."""
FEATURES_ONLY = 1 << 24
"""Added to a row of which only the target's features count: an unseen target, or a row dropped in training."""
PAD_ROW = -1
"""Fills the rows of a perturbation set that is smaller than the largest one of its batch."""


LIBRARY_SIZE = "log_library_size"
"""The number field that is computed from the counts: log of a cell's total."""
NUMBER_ROWS = 7
"""Embedding rows of a number field: the null row, a constant, the standardised number, two sines and cosines of it."""
FARTHEST = 10.0
"""Standard deviations from the training mean beyond which a number is refused."""
_LEFT_OUT = {"", "nan", "na", "n/a", "<na>", "none"}


class UnknownLabel(ValueError):
    """A condition label, number, field or gene that the vocabulary does not hold."""


@dataclasses.dataclass(frozen=True)
class GenePanel:
    """The ordered genes of a model: position g of every (B, G) array is `genes[g]`."""

    genes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.genes:
            raise ValueError("a gene panel needs at least one gene.")
        if len(set(self.genes)) != len(self.genes):
            seen: set[str] = set()
            twice = [gene for gene in self.genes if gene in seen or seen.add(gene)]  # type: ignore[func-returns-value]
            raise ValueError(f"gene {twice[0]!r} occurs more than once in the panel. Make gene ids unique first.")

    def __len__(self) -> int:
        return len(self.genes)

    @functools.cached_property
    def positions(self) -> Mapping[str, int]:
        """Gene id -> position in the panel."""
        return {gene: i for i, gene in enumerate(self.genes)}

    @functools.cached_property
    def hash(self) -> str:
        """16 hex digits that change with any gene or with their order."""
        return content_hash(list(self.genes))

    def to_json(self) -> dict[str, Any]:
        return {"genes": list(self.genes)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "GenePanel":
        return cls(tuple(value["genes"]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditionField:
    """One condition of labels: a named field with its training labels, one prepended token (paper section 4)."""

    optional: ClassVar[bool] = False
    """May a request leave the field out?"""
    name: str
    kind: FieldKind = "category"
    labels: tuple[str, ...] = ()
    """Labels with training cells, without the control labels. Row of label i: `first_row + i`."""
    controls: tuple[str, ...] = ()
    """Every source's name for the control (non-targeting, PBS, ...); all map to one row. Perturbation fields only."""
    unseen: tuple[str, ...] = ()
    """Labels without training cells whose target has features; their rows follow, and hold features alone."""

    def __post_init__(self) -> None:
        if self.kind == "perturbation" and not self.controls:
            raise ValueError(f"perturbation field {self.name!r} needs at least one control label.")
        if self.kind == "category" and self.controls:
            raise ValueError(f"field {self.name!r} is a category: only a perturbation field has control labels.")
        overlap = set(self.labels) & set(self.controls)
        if overlap or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"field {self.name!r} lists a label twice: {sorted(overlap) or self.labels}.")

    @property
    def first_row(self) -> int:
        return CONTROL_ROW + 1 if self.kind == "perturbation" else NULL_ROW + 1

    @property
    def rows(self) -> int:
        """Number of embedding rows: null, control (perturbation only), labels."""
        return self.first_row + len(self.labels)

    @property
    def rows_with_features(self) -> int:
        """`rows`, and those of unseen targets behind them."""
        return self.rows + len(self.unseen)

    def features_row(self, label: str) -> int:
        """The row of a label by its target's features alone.

        Raises:
            UnknownLabel: there are no features of this target; naming the nearest that have some.
        """
        index = {known: self.rows + i for i, known in enumerate(self.unseen)}
        if label not in index:
            raise UnknownLabel(
                f"{self.name} {label!r} has neither training cells nor target features (nearest with features: "
                f"{nearest(label, index)})."
            )
        return FEATURES_ONLY + index[label]

    @functools.cached_property
    def _row_of(self) -> Mapping[str, int]:
        rows = {label: self.first_row + i for i, label in enumerate(self.labels)}
        return rows | dict.fromkeys(self.controls, CONTROL_ROW)

    def row(self, label: str) -> int:
        """Embedding row of one label.

        Raises:
            UnknownLabel: naming the nearest labels of the vocabulary.
        """
        try:
            return self._row_of[label]
        except KeyError:
            raise UnknownLabel(
                f"{self.name} {label!r} is not in the training vocabulary (nearest: {nearest(label, self._row_of)})."
            ) from None

    def row_set(self, label: str) -> tuple[int, ...]:
        """Rows of a label's members."""
        return tuple(self.row(member) for member in self.members(label))

    def members(self, label: str) -> tuple[str, ...]:
        """In a perturbation field 'A+B' is the set {A, B} unless the whole label is itself known; else the label.

        A member counts once, and a control adds nothing to others: 'A+A' and 'ctrl+A' are A.
        """
        if self.kind != "perturbation" or label in self._row_of or "+" not in label:
            return (label,)
        named = tuple(dict.fromkeys(label.split("+")))
        return tuple(member for member in named if not self.is_control(member)) or named[:1]

    def is_control(self, label: str) -> bool:
        return label in self.controls

    def text(self, value: Any) -> str:
        """A label as tables of conditions hold it."""
        return str(value)

    def extended(self, new: "Field") -> "ConditionField":
        """This field with the labels of another one of its name behind its own.

        Raises:
            ValueError: the fields are not of one kind; or a control of one is a label of the other.
        """
        _same_kind(self, new)
        assert isinstance(new, ConditionField)
        controls = self.controls + tuple(label for label in new.controls if label not in self.controls)
        labels = self.labels + tuple(label for label in new.labels if label not in {*self.labels, *controls})
        unseen = tuple(label for label in new.unseen if label not in {*labels, *controls})
        return dataclasses.replace(self, labels=labels, controls=controls, unseen=unseen)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ConditionField":
        return cls(
            name=value["name"],
            kind=value["kind"],
            labels=tuple(value["labels"]),
            controls=tuple(value["controls"]),
            unseen=tuple(value.get("unseen", ())),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumberField:
    """One condition that is a number of each cell (dose, time), one prepended token; it may be left out (NaN)."""

    kind: ClassVar[str] = "number"
    optional: ClassVar[bool] = True
    rows: ClassVar[int] = NUMBER_ROWS
    """Number of embedding rows."""
    name: str
    mean: float = 0.0
    """Of the training cells."""
    scale: float = 1.0
    """Standard deviation over the training cells, > 0."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(
                f"field {self.name!r} needs a finite mean and a scale > 0, got {self.mean} and {self.scale}."
            )

    def number(self, value: Any) -> float:
        """What a number or its text says; NaN for one that is left out.

        Raises:
            UnknownLabel: it is no finite number, or lies far from all training cells.
        """
        text = str(value).strip()
        if text.lower() in _LEFT_OUT:
            return math.nan
        try:
            number = float(text)
        except ValueError:
            number = math.inf
        if not math.isfinite(number):
            raise UnknownLabel(
                f"{self.name} {text[:40]!r} is no finite number. Write a number, or leave it empty to leave it out."
            )
        if abs(number - self.mean) > FARTHEST * self.scale:
            raise UnknownLabel(
                f"{self.name} {number:g} lies more than {FARTHEST:g} standard deviations from the training cells (mean "
                f"{self.mean:.4g}, standard deviation {self.scale:.3g}). Ask for one near them, or leave it out."
            )
        return number

    def text(self, value: Any) -> str:
        """A number as tables of conditions hold it: one text for 7, 7.0 and '7', empty where it is left out.

        Raises:
            UnknownLabel: as for `number`.
        """
        number = self.number(value)
        return "" if math.isnan(number) else repr(number)

    def extended(self, new: "Field") -> "NumberField":
        """This field as it is: what was learnt is of its mean and scale.

        Raises:
            ValueError: the fields are not of one kind.
        """
        _same_kind(self, new)
        return self

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "NumberField":
        return cls(name=value["name"], mean=value["mean"], scale=value["scale"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class LibrarySizeField(NumberField):
    """The log of a cell's total count: computed from the counts, never read from a column."""

    kind: ClassVar[str] = "library size"
    name: str = LIBRARY_SIZE


Field = ConditionField | NumberField
_KINDS: Mapping[str, type[ConditionField] | type[NumberField]] = {
    "category": ConditionField,
    "perturbation": ConditionField,
    NumberField.kind: NumberField,
    LibrarySizeField.kind: LibrarySizeField,
}


def _same_kind(old: Field, new: Field) -> None:
    if new.kind != old.kind:
        raise ValueError(f"field {old.name!r} was a {old.kind} and would become a {new.kind}.")


@dataclasses.dataclass(frozen=True)
class ConditionVocabulary:
    """The ordered condition fields of a model."""

    fields: tuple[Field, ...] = ()

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"condition fields must have distinct names, got {names}.")
        if sum(field.kind == "perturbation" for field in self.fields) > 1:
            raise ValueError("at most one field can be the perturbation; make the others categories.")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def labelled(self) -> tuple[ConditionField, ...]:
        """The fields of labels: contexts and perturbation. Only these group cells."""
        return tuple(field for field in self.fields if isinstance(field, ConditionField))

    @property
    def numbers(self) -> tuple[NumberField, ...]:
        """The fields of numbers, which may be left out."""
        return tuple(field for field in self.fields if isinstance(field, NumberField))

    @property
    def library_size(self) -> LibrarySizeField | None:
        """The field of the library size, or None for a model without one."""
        return next((field for field in self.fields if isinstance(field, LibrarySizeField)), None)

    @property
    def perturbation(self) -> ConditionField | None:
        """The perturbation field, or None for a model without one."""
        return next((field for field in self.labelled if field.kind == "perturbation"), None)

    @property
    def contexts(self) -> tuple[ConditionField, ...]:
        """Every field of labels but the perturbation."""
        return tuple(field for field in self.labelled if field.kind == "category")

    def field(self, name: str) -> Field:
        """The field of this name.

        Raises:
            UnknownLabel: naming the fields there are.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise UnknownLabel(f"no condition field {name!r}; this model has: {', '.join(self.names) or 'none'}.")

    @functools.cached_property
    def hash(self) -> str:
        return content_hash(self.to_json())

    def extended(self, new: "ConditionVocabulary") -> "ConditionVocabulary":
        """The fields of `new`, in its order; a field that is known keeps the row of every known label, and gets rows
        for new ones behind them.

        Raises:
            ValueError: a field is of one kind here and of another there.
        """
        known = {field.name: field for field in self.fields}
        return ConditionVocabulary(
            tuple(known[field.name].extended(field) if field.name in known else field for field in new.fields)
        )

    def with_unseen(self, labels: Iterable[str]) -> "ConditionVocabulary":
        """The same fields, the perturbation's with those of the labels that it does not know as unseen targets."""

        def known(field: ConditionField) -> set[str]:
            return {*field.labels, *field.controls}

        return ConditionVocabulary(
            tuple(
                dataclasses.replace(field, unseen=tuple(label for label in labels if label not in known(field)))
                if isinstance(field, ConditionField) and field is self.perturbation
                else field
                for field in self.fields
            )
        )

    def to_json(self) -> dict[str, Any]:
        return {"fields": [field.to_json() for field in self.fields]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ConditionVocabulary":
        return cls(tuple(_KINDS[field["kind"]].from_json(field) for field in value["fields"]))


def nearest(word: str, known: Iterable[str], *, most: int = 3) -> str:
    """The known words most like `word`, as text for an error message; a few of the known ones if none is like it."""
    known = sorted(str(entry) for entry in known)
    folded = {entry.lower(): entry for entry in known}
    close = [folded[entry] for entry in difflib.get_close_matches(word.lower(), folded, n=most, cutoff=0.4)]
    return ", ".join(close or known[:most]) or "nothing"


def content_hash(value: Any, *, digits: int = 16) -> str:
    """Hex digest of a JSON-serialisable value, the same on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()[:digits]
