"""What people get wrong, command by command: arguments, and a word that the answer must contain."""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Iterator

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse

Case = tuple[str, list[str], str]
"""Name, arguments, and what the line must contain."""
COUNTS = [[1, 0, 2], [0, 3, 1], [4, 0, 0]]
FINDINGS = {
    "log-normalised counts", "negative counts", "a count that is not a number", "an infinite count",
    "a count beyond what is stored", "genes of one name",
}  # fmt: skip
"""What `inspect` tells among all else that it finds, on its page."""


@dataclasses.dataclass(frozen=True)
class World:
    """Where a case happens: a folder of its own, with a screen, its store, and a finished run."""

    folder: pathlib.Path
    screen: pathlib.Path
    store: pathlib.Path
    runs: pathlib.Path

    def text(self, name: str, text: str | bytes) -> str:
        """A file of this text."""
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    def cells(self, name: str, counts=COUNTS, genes="abc", **obs) -> str:
        """An h5ad file of these counts."""
        frame = pd.DataFrame(
            obs or {"target": ["ctrl", "KO", "ctrl"]}, index=[f"c{i}" for i in range(np.shape(counts)[0])]
        )
        matrix = scipy.sparse.csr_matrix(np.asarray(counts))
        cells = anndata.AnnData(matrix, obs=frame, var=pd.DataFrame(index=list(genes)))
        cells.write_h5ad(self.folder / name)
        return str(self.folder / name)

    def edited(self, name: str, edit: Callable[[h5py.File], None]) -> str:
        """A good h5ad file with something changed inside."""
        path = self.cells(name)
        with h5py.File(path, "r+") as file:
            edit(file)
        return path

    def own_runs(self) -> pathlib.Path:
        """A copy of the runs, to be damaged."""
        return pathlib.Path(shutil.copytree(self.runs, self.folder / "runs"))

    @property
    def none(self) -> str:
        """A path with nothing there."""
        return str(self.folder / "none")


def _set(path: str, value) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file[path][...] = value

    return edit


def _declare(rows: int, columns: int) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file["X"].attrs["shape"] = np.array([rows, columns])

    return edit


def _remove(path: str) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file[path]

    return edit


def files(world: World) -> Iterator[Case]:
    """Files that cannot be read, or are no raw counts."""
    good = world.cells("good.h5ad")
    size = pathlib.Path(good).stat().st_size
    folder = world.folder / "folder.zarr"
    folder.mkdir()
    tenx = world.folder / "tenx"
    tenx.mkdir()
    (tenx / "matrix.mtx").write_text("no matrix")
    broken = world.folder / "broken.zarr"
    broken.mkdir()
    (broken / "zarr.json").write_text("{")
    bad = {
        "text": (world.text("text.h5ad", "not an h5ad"), "text.h5ad"),
        "nothing": (world.text("empty.h5ad", ""), "empty.h5ad"),
        "noise": (world.text("noise.h5ad", np.random.default_rng(0).bytes(4096)), "noise.h5ad"),
        "the first half of a file": (
            world.text("half.h5ad", pathlib.Path(good).read_bytes()[: size // 2]),
            "half.h5ad",
        ),
        "a file that is not there": (str(world.folder / "none.h5ad"), "none.h5ad"),
        "a file name with a zero byte": (str(world.folder / "a\0b.h5ad"), "b.h5ad"),
        "a file name that is too long": (str(world.folder / f"{'x' * 300}.h5ad"), "xxx"),
        "a pattern that matches nothing": (str(world.folder / "none*.h5ad"), "matches no file"),
        "an empty folder": (str(folder), "folder.zarr"),
        "a zarr folder of broken JSON": (str(broken), "broken.zarr"),
        "a 10x folder without genes": (str(tenx), "tenx"),
        "a 10x file of something else": (world.text("text.h5", "not an h5"), "text.h5"),
        "an h5ad without X": (world.edited("headless.h5ad", _remove("X")), "headless.h5ad"),
        "log-normalised counts": (world.cells("logged.h5ad", np.log1p(COUNTS)), "raw"),
        "negative counts": (world.cells("negative.h5ad", [[1, -2, 0]] * 3), "negative"),
        "a count that is not a number": (world.cells("nan.h5ad", [[1, np.nan, 0]] * 3), "nan.h5ad"),
        "an infinite count": (world.cells("infinite.h5ad", [[1, np.inf, 0]] * 3), "infinite.h5ad"),
        "a count beyond what is stored": (world.cells("huge.h5ad", [[1, 2**40, 0]] * 3), "huge.h5ad"),
        "no cells": (world.cells("cells0.h5ad", np.zeros((0, 3)), target=[]), "cells0.h5ad"),
        "no genes": (world.cells("genes0.h5ad", np.zeros((3, 0)), genes=""), "genes0.h5ad"),
        "genes of one name": (world.cells("twice.h5ad", genes="aab"), "twice.h5ad"),
        "a declared shape of 10^15 cells": (world.edited("tall.h5ad", _declare(10**15, 3)), "tall.h5ad"),
        "a declared shape of 10^15 genes": (world.edited("wide.h5ad", _declare(3, 10**15)), "wide.h5ad"),
        "column numbers beyond the genes": (world.edited("far.h5ad", _set("X/indices", 99)), "far.h5ad"),
        "row pointers that go back": (world.edited("back.h5ad", _set("X/indptr", [0, 5, 1, 5])), "back.h5ad"),
        "a negative shape": (world.edited("minus.h5ad", _declare(-3, 3)), "minus.h5ad"),
    }
    for what, (path, said) in bad.items():
        yield f"ingest: {what}", ["ingest", path, "--out", world.none], said
        if what not in FINDINGS:
            yield f"inspect: {what}", ["inspect", path], said
        if what not in ("a pattern that matches nothing", "genes of one name"):  # the first is no pattern there
            yield (
                f"embed: {what}",
                ["embed", "tiny", "--runs", str(world.runs), "--cells", path, "--out", f"{world.none}.h5ad"],
                "",
            )


def ingest(world: World) -> Iterator[Case]:
    """Options of ingest."""
    good = world.cells("good.h5ad")
    out = ["--out", world.none]
    full = world.folder / "full"
    full.mkdir()
    (full / "diary.txt").write_text("mine")
    cases = {
        "no file": (out, "h5ad"),
        "no output": ([good], "--out"),
        "an output that is a file": ([good, "--out", world.text("file", "mine")], "file"),
        "an output that is a folder of something else": ([good, "--out", str(full)], "full"),
        "an output below a file": ([good, "--out", str(world.folder / "file" / "store")], "file"),
        "a missing column": ([good, *out, "--columns.context", "donor"], "target"),
        "a missing batch column": ([good, *out, "--columns.batch", "lane"], "target"),
        "a column of text as numbers": ([good, *out, "--columns.numbers", "target"], "target"),
        "a control label that does not occur": (
            [good, *out, "--columns.perturbation", "target", "--columns.control", "ctlr"],
            "ctrl",
        ),
        "controls of no perturbation": ([good, *out, "--columns.control", "ctrl"], "--columns.perturbation"),
        "a column in two roles": ([good, *out, "--columns.context", "target", "--columns.batch", "target"], "target"),
        "no gene in common": ([good, world.cells("other.h5ad", genes="xyz"), *out], "no gene"),
        "a panel that is none": ([good, *out, "--genes.panel", "onion"], "--genes.panel onion"),
        "a panel of no genes": ([good, *out, "--genes.panel", world.text("genes.txt", "\n")], "genes.txt"),
        "a panel of noise": ([good, *out, "--genes.panel", world.text("noise.txt", b"\xff\xfe\x00\x01")], "noise.txt"),
        "a panel that finds no gene": (
            [good, *out, "--genes.panel", world.text("far.txt", "x\ny\n")],
            "no gene in common",
        ),
        "aliases that are not there": ([good, *out, "--genes.aliases", world.none], "none"),
        "aliases without columns": ([good, *out, "--genes.aliases", world.text("alias.csv", "x\n")], "alias.csv"),
        "a layer that is not there": ([good, *out, "--layer", "counts"], "counts"),
        "a gene column that is not there": ([good, *out, "--genes.column", "symbol"], "symbol"),
        "a share above one": ([good, *out, "--genes.min-mapped", "2"], "min-mapped"),
        "no memory": ([good, *out, "--memory-mb", "0"], "--memory-mb"),
        "fewer than no workers": ([good, *out, "--workers", "-1"], "--workers"),
        "a negative seed": ([good, *out, "--seed", "-1"], "--seed"),
        "a scheduler that is not there": ([good, *out, "--dask", "tcp://127.0.0.1:1"], "dask scheduler"),
        "guides that are not there": (
            [good, *out, "--screen.guides", world.none, "--screen.guide-column", "g"],
            "none",
        ),
        "cells to keep without perturbations": ([good, *out, "--screen.max-residual", "0.3"], "perturbation"),
        "a bucket without a name": ([good, "--out", "gs://"], "gs://"),
        "another scheme": ([good, "--out", "hdfs://x/store"], "hdfs"),
        "scratch that is a file": ([good, *out, "--scratch", world.text("scratch", "")], "scratch"),
    }
    for what, (arguments, said) in cases.items():
        yield f"ingest: {what}", ["ingest", *arguments], said


def split(world: World) -> Iterator[Case]:
    """Splits."""
    store = str(world.store)
    cases = {
        "no store": ([], "cell store"),
        "a store that is not there": ([world.none], "lingshu ingest"),
        "a store that is a file": ([world.text("file", "x")], "file"),
        "an unknown kind": ([store, "--kind", "genes"], "cells"),
        "no TOML": ([store, "--kind", "toml"], "--toml"),
        "a TOML that is not there": ([store, "--kind", "toml", "--toml", world.none], "none"),
        "a TOML that is none": ([store, "--kind", "toml", "--toml", world.text("a.toml", "= [")], "a.toml"),
        "a TOML of something else": ([store, "--kind", "toml", "--toml", world.text("b.toml", "a = 1")], "b.toml"),
        "a TOML of other contexts": (
            [store, "--kind", "toml", "--toml", world.text("c.toml", '[zeroshot]\n"screen.Mars" = "test"\n')],
            "Mars",
        ),
        "a share below nothing": ([store, "--test", "-0.1"], "test"),
        "a share of more than all": ([store, "--test", "1.5"], "test"),
        "a share that is no number": ([store, "--test", "nan"], "--test"),
        "groups of no column": ([store, "--kind", "groups"], "--column"),
        "groups of a column that is not there": ([store, "--kind", "groups", "--column", "donor"], "donor"),
        "contexts that do not occur": ([store, "--kind", "contexts", "--contexts", "Mars"], "Mars"),
        "a name that leaves the folder": ([store, "--name", "../up"], "../up"),
        "a name of nothing": ([store, "--name", ""], "name"),
        "a name with a line break": ([store, "--name", "a\nb"], "name"),
        "a TOML into nowhere": (
            [store, "--kind", "combinations", "--name", "new", "--write-toml", f"{world.none}/deep/a.toml"],
            "none",
        ),
    }
    for what, (arguments, said) in cases.items():
        named = [] if "--name" in arguments else ["--name", "mine"]
        yield f"split: {what}", ["split", *arguments, *named], said


def train(world: World) -> Iterator[Case]:
    """Training."""
    runs = ["--runs", str(world.runs)]
    there = ["train", "demo", "--store", str(world.store)]
    here = [*there, *runs]
    cases = {
        "an unknown experiment": (["train", "dmeo", "--store", "x"], "demo"),
        "no experiment": (["train"], "lingshu train"),
        "an unknown option": (["train", "demo", "--model.widht", "8"], "--model.width"),
        "a value of the wrong type": (["train", "demo", "--model.width", "wide"], "must be a whole number, got 'wide'"),
        "an impossible setting": (["train", "demo", "--training.batch-size", "48"], "64"),
        "no steps": (["train", "demo", "--training.steps", "0"], "training.steps"),
        "more steps than are counted": (
            ["train", "demo", "--training.steps", str(2**31)],
            "training.steps must be <= ",
        ),
        "a rate that is no number": (["train", "demo", "--optimizer.learning-rate", "nan"], "learning-rate"),
        "a rate below zero": (["train", "demo", "--optimizer.learning-rate", "-1"], "learning_rate"),
        "a dropout of more than all": (["train", "demo", "--training.condition-dropout", "1.5"], "condition_dropout"),
        "noise of more than all": (["train", "demo", "--training.token-noise", "1"], "token_noise"),
        "a negative seed": (["train", "demo", "--seed", "-1"], "--seed must lie in 0.."),
        "heads that do not divide the width": ([*here, "--model.width", "30", "--model.heads", "4"], "heads"),
        "no genes in a patch": ([*here, "--model.genes-per-patch", "0"], "genes"),
        "an unknown start": ([*here, "--model.start", "zero"], "start"),
        "more devices than there are": ([*here, "--mesh.data", "64"], "64"),
        "no store": (["train", "demo"], "--store"),
        "a store that is not there": (["train", "demo", "--store", world.none], "lingshu ingest"),
        "a store that is a file": (["train", "demo", "--store", world.text("file", "x")], "file"),
        "a split that is not there": ([*here, "--data.split", "nope"], "nope"),
        "runs in no bucket": ([*there, "--runs", "gs://"], "gs:// names no bucket"),
        "runs elsewhere": ([*there, "--runs", "hdfs://x/runs"], "no place for runs"),
        "runs in a file": ([*there, "--runs", world.text("runs.txt", "x")], "runs.txt"),
        "half of a pod": ([*here, "--distributed.processes", "0"], "distributed.processes"),
        "a process beyond the last": (
            [*here, "--distributed.processes", "2", "--distributed.process", "5", "--distributed.coordinator", "h:1"],
            "process",
        ),
        "a run name that leaves the folder": ([*here, "--run", "../up"], "../up"),
        "a run name with a line break": ([*here, "--run", "a\nb"], "--run"),
        "a run name of 300 letters": ([*here, "--run", "x" * 300], "xxx"),
        "a start from a run that is not there": ([*here, "--init.from", "nope"], "nope"),
        "features that are not there": (
            [*here, "--model.features", "target", "--model.features.source", f"{world.none}.npz"],
            "none.npz",
        ),
        "features that are none": (
            [*here, "--model.features", "target", "--model.features.source", world.text("f.npz", "x")],
            "f.npz",
        ),
        "other settings of a finished run": (
            ["train", "perturb", "--store", str(world.store), *runs, "--run", "tiny", "--model.width", "32"],
            "tiny",
        ),
        "a step to go on from that is not there": ([*here, "--resume-step", "5"], "--resume-step"),
    }
    for what, (arguments, said) in cases.items():
        yield f"train: {what}", arguments, said


def launch(world: World) -> Iterator[Case]:
    """Launch files."""
    cases = {
        "nothing": ([], "slurm"),
        "an unknown scheduler": (["lsf", "demo", "--store", "x"], "slurm"),
        "an unknown experiment": (["slurm", "dmeo", "--store", "x"], "demo"),
        "no store": (["slurm", "demo"], "--store"),
        "an unknown setting": (["slurm", "demo", "--store", "x", "--launch.nodse", "2"], "--launch.nodes"),
        "no nodes": (["slurm", "demo", "--store", "x", "--launch.nodes", "0"], "nodes"),
        "a model setting that is none": (["slurm", "demo", "--store", "x", "--model.widht", "2"], "--model.width"),
    }
    for what, (arguments, said) in cases.items():
        yield f"launch: {what}", ["launch", *arguments], said


def sample(world: World) -> Iterator[Case]:
    """Drawing cells."""
    here = ["tiny", "--runs", str(world.runs)]
    out = ["--out", f"{world.none}.h5ad"]
    header = "cell_line,target_gene,n_cells\n"

    def table(name: str, text: str | bytes) -> list[str]:
        return [*here, "--conditions", world.text(name, text), *out]

    cases = {
        "an unknown run": (["nope", "--split", "test", "--runs", str(world.runs)], "nope"),
        "no run": ([], "run"),
        "no runs": (["tiny", "--split", "test", "--runs", world.none], "none"),
        "neither split nor conditions": ([*here, *out], "--split"),
        "both split and conditions": ([*table("a.csv", header), "--split", "test"], "--split"),
        "conditions that are not there": ([*here, "--conditions", world.none, *out], "none"),
        "conditions of nothing": (table("empty.csv", ""), "empty.csv"),
        "conditions without rows": (table("header.csv", header), "no row"),
        "conditions of noise": (table("noise.csv", b"\xff\xfe\x00\x80,"), "noise.csv"),
        "conditions of another column": (table("col.csv", "planet,n\nMars,3\n"), "planet"),
        "conditions of an unknown label": (table("lab.csv", header + "Mars,non-targeting,3\n"), "Mars"),
        "conditions of a negative number": (table("neg.csv", header + "line_A,non-targeting,-3\n"), "-3"),
        "conditions of a broken number": (table("half.csv", header + "line_A,non-targeting,2.5\n"), "2.5"),
        "conditions of uneven rows": (table("rows.csv", header + "line_A,non-targeting,1,2,3\n"), "rows.csv"),
        "no cells": ([*here, "--split", "test", "--n", "0", *out], "--n"),
        "a number that is none": ([*here, "--split", "test", "--n", "many", *out], "--n"),
        "a condition without a value": (["x", "--condition.a"], "needs a value"),
        "a condition of an unknown field": ([*here, "--condition.planet", "Mars", "--n", "3", *out], "planet"),
        "a step that is not there": ([*here, "--split", "test", "--step", "5", *out], "5"),
        "a temperature of zero": ([*here, "--split", "test", "--sampler.temperature", "0", *out], "temperature"),
        "a share of more than all": ([*here, "--split", "test", "--sampler.top-p", "2", *out], "top_p"),
        "no reverse steps": ([*here, "--split", "test", "--sampler.schedule.steps", "0", *out], "schedule"),
        "an unknown schedule": ([*here, "--split", "test", "--sampler.schedule", "spiral", *out], "spiral"),
        "an unknown prior": ([*here, "--split", "test", "--prior", "hope", *out], "--prior"),
        "an unknown policy": ([*here, "--split", "test", "--unseen", "guess", *out], "--unseen"),
        "samples in a bucket": ([*here, "--split", "test", "--out", "gs://bucket/x.h5ad"], "gs://"),
        "an output of another kind": ([*here, "--split", "test", "--out", f"{world.none}.xlsx"], "xlsx"),
        "an output that is a folder": ([*here, "--split", "test", "--out", _folder(world, "dir.h5ad")], "dir.h5ad"),
        "an output that is another file": (
            [*here, "--split", "test", "--out", world.text("mine.h5ad", "mine")],
            "mine.h5ad",
        ),
        "a store that has gone": ([*here, "--split", "test", "--store", world.none, *out], "none"),
    }
    for what, (arguments, said) in cases.items():
        yield f"sample: {what}", ["sample", *arguments], said


def _folder(world: World, name: str) -> str:
    (world.folder / name).mkdir()
    return str(world.folder / name)


def damaged_runs(world: World) -> Iterator[Case]:
    """Runs that something happened to."""
    for what, name, text in (
        ("settings that are no JSON", "config.json", b"{"),
        ("settings that are a list", "config.json", b"[]"),
        ("settings of nothing", "config.json", b"{}"),
        ("settings of noise", "config.json", b"\x80\xff\x00"),
    ):
        own = World(_sub(world, what), world.screen, world.store, world.runs)
        runs = own.own_runs()
        run = next(path.parent for path in runs.rglob("config.json"))
        (run / name).write_bytes(text)
        out = ["--out", f"{own.none}.h5ad"]
        yield f"sample: {what}", ["sample", str(run), "--split", "test", "--runs", str(runs), *out], ""
        yield f"evaluate: {what}", ["evaluate", str(run), "--runs", str(runs)], ""
        yield f"runs show: {what}", ["runs", "show", str(run), "--runs", str(runs)], ""


def _sub(world: World, what: str) -> pathlib.Path:
    path = world.folder / what.replace(" ", "-")
    path.mkdir()
    return path


def cells(world: World) -> Iterator[Case]:
    """Commands that take the user's own cells."""
    here = ["tiny", "--runs", str(world.runs)]
    good, strange = str(world.screen), world.cells("strange.h5ad", genes="xyz")
    out = ["--out", f"{world.none}.h5ad"]
    table = ["--out", f"{world.none}.csv"]
    cases = {
        "impute: no cells": ([*here, *out], "--cells"),
        "impute: genes that the model does not know": ([*here, "--cells", strange, *out], "gene"),
        "impute: neither genes nor a share": ([*here, "--cells", good, *out, "--expectation", "--draws", "0"], "draws"),
        "impute: a share of more than all": ([*here, "--cells", good, *out, "--share", "1.5"], "--share"),
        "impute: genes to hide that are not there": ([*here, "--cells", good, *out, "--hide", world.none], "none"),
        "impute: genes to hide that are unknown": (
            [*here, "--cells", good, *out, "--hide", world.text("hide.txt", "XYZ\n")],
            "XYZ",
        ),
        "impute: a layer that is not there": ([*here, "--cells", good, *out, "--layer", "raw"], "raw"),
        "impute: a gene column that is not there": ([*here, "--cells", good, *out, "--gene-column", "id"], "id"),
        "counterfactual: no perturbation": ([*here, "--cells", good, *out], "perturbation"),
        "counterfactual: an unknown perturbation": (
            [*here, "--cells", good, *out, "--perturbation", "MARS", "--keep-share", "0.5"],
            "MARS",
        ),
        "score: an unknown field": ([*here, "--cells", good, *table, "--by", "planet"], "planet"),
        "score: no draws": ([*here, "--cells", good, *table, "--draws", "0"], "draws"),
        "score: an output in a folder that is not there": (
            [*here, "--cells", good, "--out", f"{world.none}/a/b.csv"],
            "none",
        ),
        "score: genes into a folder that is not there": (
            [*here, "--cells", good, *table, "--genes", f"{world.none}/a/b.csv"],
            "none",
        ),
        "embed: genes that the model does not know": ([*here, "--cells", strange, *out], "gene"),
        "embed: no rows": ([*here, "--cells", good, *out, "--cells-per-device", "0"], "cells-per-device"),
        "sweep: an unknown schedule": ([*here, "--schedules", "spiral"], "spiral"),
        "sweep: steps that are no numbers": ([*here, "--steps", "3,x"], "--steps"),
        "sweep: scales that are no numbers": ([*here, "--scales", "x"], "--scales"),
        "sweep: no cells": ([*here, "--most-cells", "0"], "--most-cells"),
        "export: a file that is not there": ([world.none, "--format", "vcc2025", "--genes", world.none, *out], "none"),
        "export: an unknown format": ([good, "--format", "vcc1999", "--genes", world.none], "vcc2025"),
        "export: no genes": ([good, "--format", "vcc2025"], "--genes"),
        "export: genes that are not there": (
            [good, "--format", "vcc2025", "--genes", f"{world.none}.csv", *out],
            "none.csv",
        ),
        "export: genes of nothing": (
            [good, "--format", "vcc2025", "--genes", world.text("e.txt", ""), *out],
            "e.txt",
        ),
    }
    for what, (arguments, said) in cases.items():
        yield what, [what.partition(":")[0], *arguments], said


def looks(world: World) -> Iterator[Case]:
    """Evaluations, reports, lists."""
    runs = ["--runs", str(world.runs)]
    here = ["tiny", *runs]
    cases = {
        "evaluate: an unknown run": (["nope", *runs], "nope"),
        "evaluate: samples that are not there": ([*here, "--samples", f"{world.none}.h5ad"], "none.h5ad"),
        "evaluate: samples of noise": ([*here, "--samples", world.text("n.h5ad", "noise")], "n.h5ad"),
        "evaluate: samples of other genes": ([*here, "--samples", world.cells("o.h5ad", genes="xyz")], "panel"),
        "evaluate: no cells of the bound": ([*here, "--bound-cells", "0"], "bound"),
        "evaluate: no draws": ([*here, "--draws", "0"], "draws"),
        "evaluate: a page of nothing": ([*here, "--out", f"{world.none}.html"], "--whole"),
        "evaluate: an unknown part": ([*here, "--split", "train"], "--split"),
        "report: an unknown run": (["nope", *runs], "nope"),
        "report: a run without evaluations": (here, "lingshu evaluate"),
        "runs: an unknown word": (["lst", *runs], "show"),
        "runs: details of nothing": (["show", *runs], "show"),
        "runs: details of an unknown run": (["show", "nope", *runs], "nope"),
        "runs: a difference of one": (["diff", "tiny", *runs], "diff"),
        "runs: an alias with a space": (["alias", "a b", "tiny", *runs], "a b"),
        "runs: an alias of an unknown run": (["alias", "best", "nope", *runs], "nope"),
        "runs: an alias of a step that is not there": (["alias", "best", "tiny", "--step", "5", *runs], "5"),
        "runs: an alias to forget that is none": (["unalias", "best", *runs], "best"),
        "runs: a filter that is none": (["--filter", "perturb", *runs], "--filter"),
        "runs: a metric that is none": (["--sort", "beauty", *runs], "beauty"),
        "runs: a folder that is a file": (["--runs", world.text("file", "x")], "file"),
        "results: no data": (["--runs", world.none, "--out", world.text("page.md", "x")], "--data"),
        "results: data that are not there": (["--data", world.none, *runs, "--out", world.text("p.md", "x")], "none"),
        "results: an unknown task": (["--only", "moon", *runs], "moon"),
        "ablations: an unknown study": (["--only", "moon", *runs], "moon"),
        "ablations: no seeds": (["--seeds", "0", *runs], "--seeds"),
        "ablations: data that are not there": (["--data", world.none, *runs, "--out", world.text("q.md", "x")], "none"),
        "simulate: a file of something else": ([world.cells("real.h5ad")], "real.h5ad"),
        "simulate: a folder": ([_folder(world, "out.h5ad")], "out.h5ad"),
        "simulate: another kind of file": ([f"{world.none}.csv"], "h5ad"),
        "simulate: a negative seed": ([f"{world.none}.h5ad", "--seed", "-1"], "--seed"),
    }
    for what, (arguments, said) in cases.items():
        yield what, [what.partition(":")[0], *arguments], said


GROUPS = (files, ingest, split, train, launch, sample, damaged_runs, cells, looks)
