"""Decides everything about a store before a count is moved: panel, cells, order, chunks, identity."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.columns import Columns, label_text
from data_pipelines.errors import InputError
from data_pipelines.ingestion.engine import Runner
from data_pipelines.ingestion.genes import GeneRules
from data_pipelines.ingestion.knockdown import measure_knockdown
from data_pipelines.ingestion.panel import build_panel
from data_pipelines.ingestion.runs import RunFacts, runs_of
from data_pipelines.ingestion.screen import Guides, Screen, choose_cells
from data_pipelines.ingestion.source import Source
from data_pipelines.ingestion.tables import Identity, as_labels, combined_obs, manifest, store_var
from data_pipelines.ingestion.work import Chunk, Work, chunks_of
from data_pipelines.progress import Progress
from data_pipelines.system_errors import save_array

if TYPE_CHECKING:
    import pandas

    from lingshu_jax.vocabulary import GenePanel

# N cells of all sources in input order

_SHUFFLE, _SUBSAMPLE = 0, 1
"""Streams of random numbers of one seed."""
_FEWEST_CELLS = 3
_LARGEST_CHUNK = 512 * 2**20
_HASHED_TOGETHER, _READ_TOGETHER = 64 * 2**20, 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """What is known before the counts are read."""

    sources: Sequence[Source]
    identity: Identity
    obs: "pandas.DataFrame"
    """N rows, in input order."""
    screen: Screen

    @property
    def n_cells(self) -> int:
        return len(self.obs)

    def start(self, work: Work, memory: int, runner: Runner, progress: Progress) -> None:
        """Choose the cells and their order, and write the plan.

        Args:
            work: a locked folder.
            memory: bytes that the counts of one worker may take.
            runner: measures knock-downs, where the screen asks for them.
            progress: called as progress(stage, cells done, cells).
        """
        # A worker holds one chunk, or one group of shards, with its copies: those are counted per entry.
        chunk_bytes = min(max(1, memory // 2), _LARGEST_CHUNK)
        chunks = chunks_of(self.sources, chunk_bytes)
        kept, left_out = self._kept(chunks, chunk_bytes, work.path, runner, progress)
        inputs = np.flatnonzero(kept)
        if not len(inputs):
            raise InputError("the filters leave no cell. Loosen --screen.* or the manifest's keep.")
        if len(inputs) < _FEWEST_CELLS:
            raise InputError(
                f"{len(inputs)} cells are too few: training, validation and test cells need {_FEWEST_CELLS}. "
                "Pass more cells, or leave out fewer."
            )
        destination = np.full(self.n_cells, -1, np.int64)
        destination[inputs] = np.random.default_rng([self.identity.seed, _SHUFFLE]).permutation(len(inputs))
        work.start(
            self.identity.hash,
            self.identity.inputs,
            self.identity.alignments,
            chunks,
            destination,
            chunk_bytes,
            left_out,
        )

    def totals(self, work: Work, facts: Sequence[RunFacts]) -> dict[str, int]:
        """Totals of the store; writes its row pointers beside the runs."""
        destination = work.destination()
        lengths = np.zeros(int(destination.max()) + 1, np.int64)
        for run in runs_of(work):
            lengths[run.rows()] = np.diff(run.ends())
        if not lengths.any():
            names = ", ".join(source.where for source in self.sources)
            raise InputError(f"every count is zero in {names}: there is nothing to learn from. Pass raw UMI counts.")
        save_array(work.path / "indptr.npy", np.concatenate([[0], np.cumsum(lengths)]))
        return {
            "cells": len(lengths),
            "genes": len(self.identity.panel),
            "entries": sum(fact.entries for fact in facts),
            "counts": sum(fact.total for fact in facts),
            "largest_count": max(fact.largest for fact in facts),
            "capacity": int(lengths.max()),
        }

    def tables(
        self, work: Work, totals: dict[str, int], notes: Sequence[str]
    ) -> tuple["pandas.DataFrame", "pandas.DataFrame", dict[str, Any]]:
        """obs in stored order, var, and uns."""
        destination, plan = np.asarray(work.destination()), work.plan()
        assert plan is not None
        kept = np.flatnonzero(destination >= 0)
        order = np.empty_like(kept)
        order[destination[kept]] = kept
        source = np.repeat(np.arange(len(self.sources)), [source.n_cells for source in self.sources])
        cells = np.bincount(source[kept], minlength=len(self.sources))
        about = manifest(self.identity, self.sources, cells, totals) | {
            "left_out": plan["left_out"],
            "notes": [*notes, *self._uncontrolled(kept)],
        }
        uns = {
            "cell_store": {
                "manifest": json.dumps(about, sort_keys=True),
                "measured": np.stack([alignment.measured for alignment in self.identity.alignments]),
            }
        }
        truth = self.sources[0].uns("planted_truth") if len(self.sources) == 1 else None
        if truth is not None:
            uns["planted_truth"] = truth
        return self.obs.iloc[order], store_var(self.sources, self.identity.alignments, self.identity.panel), uns

    def _uncontrolled(self, kept: np.ndarray) -> list[str]:
        columns = self.identity.columns
        if columns.perturbation is None:
            return []
        labels = label_text(self.obs[columns.perturbation].iloc[kept])
        if columns.is_control(labels).any():
            return []
        return ["the filters leave no control cell: no effect can be measured against controls."]

    def _kept(
        self, chunks: Sequence[Chunk], budget: int, scratch: pathlib.Path, runner: Runner, progress: Progress
    ) -> tuple[np.ndarray, dict[str, int]]:
        """bool (N,), the cells that stay, and how many each filter left out."""
        columns, labels = self.identity.columns, as_labels(self.obs, self.identity.columns)
        kept = np.concatenate([_kept_of(source) for source in self.sources])
        found = None
        if self.screen.needs_expression:
            of = self.identity
            found = measure_knockdown(
                labels,
                columns,
                of.panel,
                of.inputs,
                of.alignments,
                chunks,
                budget=budget,
                runner=runner,
                progress=progress,
                scratch=scratch.absolute(),
            )
            if not found.residual:
                raise InputError(
                    "--screen.max-residual and --screen.max-cell-residual can judge no perturbation: none is named "
                    "like an expressed gene of the panel. Name var's column of such names with --genes.column, or "
                    "leave the filters out."
                )
        rng = np.random.default_rng([self.identity.seed, _SUBSAMPLE])
        chosen, left_out = choose_cells(self.screen, labels, columns, kept, found, rng)
        return chosen, {"manifest's keep": int((~kept).sum()), **left_out}


def prepare(
    sources: Sequence[Source],
    columns: Columns,
    panel: "str | GenePanel",
    genes: GeneRules,
    screen: Screen,
    *,
    guides: Guides | None,
    seed: int,
    runner: Runner,
) -> Prepared:
    """Panel, obs and identity of a store.

    Raises:
        InputError: genes or columns do not fit.
    """
    screen.require_perturbation(columns)
    chosen, alignments = build_panel([source.genes for source in sources], panel, genes)
    obs = combined_obs(sources, columns, guides)
    identity = Identity(
        panel=chosen,
        columns=columns,
        inputs=tuple(source.input for source in sources),
        alignments=tuple(alignments),
        screen={**screen.to_json(), "guides": None if guides is None else guides.to_json()},
        seed=seed,
        checksums=tuple(_checksums([source.path for source in sources], runner)),
    )
    return Prepared(sources, identity, obs, screen)


def checksum(path: pathlib.Path) -> str:
    """SHA-256, 32 hex digits, of the SHA-256 of every 64 MiB of a file; of a folder, of its files and their names."""
    whole = hashlib.sha256()
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            whole.update(f"{file.relative_to(path)}\0{checksum(file)}\0".encode())
        return whole.hexdigest()[:32]

    def part(start: int) -> bytes:
        digest, buffer = hashlib.sha256(), bytearray(_READ_TOGETHER)
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            for _ in range(_HASHED_TOGETHER // _READ_TOGETHER):
                digest.update(memoryview(buffer)[: file.readinto(buffer)])
        return digest.digest()

    with ThreadPoolExecutor(2) as pool:  # hashing lets other threads run
        for digest in pool.map(part, range(0, path.stat().st_size, _HASHED_TOGETHER)):
            whole.update(digest)
    return whole.hexdigest()[:32]


def _numbered_checksum(arguments: tuple[int, pathlib.Path]) -> tuple[int, str]:
    number, path = arguments
    return number, checksum(path)


def _checksums(paths: Sequence[pathlib.Path], runner: Runner) -> list[str]:
    found = dict(runner.run(_numbered_checksum, list(enumerate(path.absolute() for path in paths))))
    return [found[number] for number in range(len(paths))]


def _kept_of(source: Source) -> np.ndarray:
    """bool (cells,), those that pass the manifest's `keep`."""
    kept = np.ones(source.n_cells, bool)
    for column, labels in source.input.keep:
        if column not in source.obs.columns:
            present = ", ".join(map(str, source.obs.columns)) or "none"
            raise InputError(f"{source.name} has no obs column {column!r} to keep cells by (present: {present}).")
        kept &= np.isin(label_text(source.obs[column]).astype(str), labels)
    return kept
