"""`lingshu export SAMPLES --format vcc2026 --genes genes.csv --out FILE`: check cells, and write a submission."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Literal

import tyro

from data_pipelines.errors import InputError
from experiments.command_line import parse
from experiments.simulation.output import check_out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Options of `lingshu export`."""

    samples: tyro.conf.Positional[pathlib.Path]
    """Cells that `lingshu sample` wrote, or any AnnData of raw counts."""
    format: Literal["vcc2025", "vcc2026"]
    """Whose contract."""
    genes: pathlib.Path
    """The challenge's gene list, in order: a csv or text file, the name first in each line."""
    out: pathlib.Path | None = None
    """The h5ad to hand in."""
    check: bool = False
    """Say whether the file itself can be handed in, and write nothing."""
    drop_controls: bool = False
    """Leave control cells out."""
    perturbation: str | None = None
    """obs column of the perturbation; what the samples say themselves, where not given."""
    context: str | None = None
    """obs columns of the context, separated by commas; what the samples say themselves, where not given."""
    control: str | None = None
    """Label of control cells; what the samples say themselves, where not given."""


def run(arguments: Sequence[str]) -> int:
    """Check, and write where asked to."""
    options = parse(Export, arguments, prog="lingshu export", description="Check and write a challenge submission.")
    if options.check == (options.out is not None):
        raise InputError("say where to write (--out FILE.h5ad), or --check to write nothing.")
    if options.check and options.drop_controls:
        raise InputError("--check says whether the file itself can be handed in; --drop-controls writes another one.")
    if options.out is not None:
        check_out(options.out, options.samples, options.genes)

    from data_pipelines.ingestion.inputs import Input
    from data_pipelines.ingestion.source import check_source, open_source
    from experiments.challenges.contracts import CONTRACTS
    from experiments.challenges.submission import Columns, Submission, read_gene_list

    genes, contract = read_gene_list(options.genes), CONTRACTS[options.format]
    columns = Columns(perturbation=options.perturbation, context=options.context, control=options.control)
    with open_source(Input(path=options.samples)) as source:
        check_source(source)
        submission = Submission.of(source, contract, genes, columns, drop_controls=options.drop_controls)
        _refuse([*submission.faults()], options)
        summary = submission.summary()
        _refuse([*submission.matrix_faults(summary)], options)
        form = [*submission.form_faults(summary)] if options.check else []
        _refuse([f"{'; '.join(form)}. Write it anew: --out FILE.h5ad"] if form else [], options)
        if options.out is not None:
            submission.write(options.out, summary.entries)
    name = options.samples if options.out is None else options.out
    print(f"{name}: fits {contract.name}; {len(summary.libraries):,} cells x {len(genes):,} genes, {summary}")
    return 0


def _refuse(faults: Sequence[str], options: Export) -> None:
    if faults:
        raise InputError(f"{options.samples} does not fit {options.format}: " + " ".join(faults))
