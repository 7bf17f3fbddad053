"""The parsers of run folders, of tables that a run is asked with, and of words on the command line."""

import contextlib
import functools
import json
import pathlib
from collections.abc import Callable, Iterator

from etils import epath
from hypothesis import strategies as st

from data_pipelines.errors import InputError
from data_pipelines.location import Location
from experiments.assembly import ModelPlan
from experiments.command_line import parse
from experiments.commands.runs import Runs
from experiments.configs import load_experiment
from experiments.evaluation.results import Evaluation
from experiments.evaluation.sweep_rows import Sweep
from experiments.real_cells.page import read_page
from experiments.registry.aliases import all_aliases, read_alias
from experiments.registry.entries import RunEntry
from experiments.registry.records import read_records
from experiments.registry.scores import read_scores
from experiments.runs import RunFolder, find_run
from experiments.simulation.conditions import check_conditions
from experiments.storage import folder_at
from experiments.text_table import read_text_table
from lingshu_jax.training.integrity import damage
from lingshu_jax.vocabulary import ConditionField, ConditionVocabulary, NumberField
from tests.fuzz.mutations import of_document
from tests.fuzz.targets import RUN, Target, documents, file_of, inside

CHECKPOINT = RUN / "checkpoints" / "2"
VOCABULARY = ConditionVocabulary(
    (
        ConditionField(name="line", labels=("a", "b")),
        ConditionField(name="target", kind="perturbation", labels=("X", "Y"), controls=("ctrl",)),
        NumberField(name="dose", mean=1.0, scale=2.0),
    )
)


def runs() -> Iterator[Target]:
    """What a run folder is made of."""
    read: dict[str, Callable[[pathlib.Path], object]] = {
        "config.json": _read_run,
        "metrics.jsonl": _read_run,
        "environment.json": _read_run,
        "checkpoints/2/checksums.json": lambda run: damage(epath.Path(run) / "checkpoints" / "2"),
        "checkpoints/2/_CHECKPOINT_METADATA": lambda run: damage(epath.Path(run) / "checkpoints" / "2"),
        "checkpoints/2/meta/metadata": lambda run: damage(epath.Path(run) / "checkpoints" / "2"),
    }
    for name, parser in read.items():
        yield documents(f"run: {name}", inside(RUN, name, parser), (RUN / name).read_bytes())
    evaluation = next((RUN / "evaluations").glob("*/metrics.json")).parent
    for name in ("metrics.json", "figures.npz"):
        valid = (evaluation / name).read_bytes()
        yield documents(f"evaluation: {name}", inside(evaluation, name, Evaluation.load), valid)
    yield documents("evaluation: scores", _scores, (evaluation / "metrics.json").read_bytes())
    yield documents("checkpoint: description", _plan, (CHECKPOINT / "meta" / "metadata").read_bytes())
    sweep = Sweep(step=2, part="val", seed=0, split_hash="s", conditions=1)
    yield documents("sweep", file_of("sweep.json", Sweep.load), json.dumps({"format": 1, **vars(sweep)}).encode())
    yield documents("alias", _alias, b'{"run": "perturb/tiny", "step": 2}')
    yield documents("settings as JSON", _settings, json.dumps(_config()["experiment"]).encode())


def _config() -> dict:
    return json.loads((RUN / "config.json").read_text())


def _read_run(path: pathlib.Path) -> object:
    run = RunFolder(path)
    with contextlib.suppress(InputError):
        run.experiment()
    return RunEntry.read(run), read_records(run)


def _scores(content: bytes, folder: pathlib.Path) -> object:
    place = folder / "evaluations" / "test"
    place.mkdir(parents=True)
    (place / "metrics.json").write_bytes(content)
    return list(read_scores(RunFolder(folder)))


def _plan(content: bytes, folder: pathlib.Path) -> object:
    try:
        meta = json.loads(content)
    except ValueError:
        return None  # Orbax says so
    return ModelPlan.from_json(meta)


def _alias(content: bytes, folder: pathlib.Path) -> object:
    (folder / "aliases").mkdir()
    (folder / "aliases" / "best.json").write_bytes(content)
    alias = read_alias(folder, "best")
    return alias and (alias.missing(folder), all_aliases(folder))


def _settings(content: bytes, folder: pathlib.Path) -> object:
    (folder / "config.json").write_bytes(b'{"experiment": %s}' % content)
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError:
        return None
    (folder / "config.json").write_text(json.dumps(_config() | config))
    return RunFolder(folder).experiment()


def words() -> Iterator[Target]:
    """Tables that a run is asked with, and text of one line."""
    table = b"line,target,dose,n_cells\na,X,1.5,4\nb,ctrl,,7\n"
    yield documents("csv of conditions", file_of("conditions.csv", _conditions), table)
    page = b"# Results\n<!-- table: a -->\n| 1 |\n<!-- end of table: a -->\nprose\n"
    yield documents("markers of a page", file_of("page.md", read_page), page)
    known = ("tiny", "latest", "best:pds@val", "perturb/tiny", str(RUN))
    yield _line("reference of a run", lambda text: find_run(text, RUN.parent.parent), *known)
    yield _line("place of a store", lambda text: Location(text).spec(), "s3://bucket/key", "gs://b", "file:///x", "a/b")
    yield _line("place of runs", folder_at, "s3://bucket/key", "gs://b", "file:///x", "a/b")
    yield _line("label of a condition", lambda text: VOCABULARY.labelled[1].row_set(text), "X", "X+Y", "ctrl")
    yield _line("number of a condition", VOCABULARY.numbers[0].text, "1.5", "nan", "1e5", "-3")
    yield Target(
        "settings on the command line", _arguments, st.lists(_WORDS, max_size=4).map(json.dumps).map(str.encode)
    )
    yield Target("options of runs", _options, st.lists(_WORDS, max_size=4).map(json.dumps).map(str.encode))


_WORDS = st.one_of(
    st.sampled_from(
        ["--model.width", "--training.steps", "--model.start", "--sampler.schedule", "--seed", "--config.seed", "8",
         "-1", "nan", "1e400", "", "=", "--", "--model.width=8", "--sampler.guidance", "null", "--sort", "--filter",
         "a=b", "--port", "show", "alias", "true", "--model.factors", "--model.factors.rank"]
    ),
    st.text(max_size=12),
)  # fmt: skip


def _line(name: str, parse: Callable[[str], object], *valid: str) -> Target:
    inputs = st.one_of(*(of_document(text.encode()) for text in valid))
    return Target(name, lambda content, _: parse(content.decode(errors="replace")), inputs)


def _conditions(path: pathlib.Path) -> object:
    return check_conditions(read_text_table(path), VOCABULARY)


def _arguments(content: bytes, folder: pathlib.Path) -> object:
    default = load_experiment("perturb")
    return _parsed(functools.partial(parse, type(default), default=default), content)


def _options(content: bytes, folder: pathlib.Path) -> object:
    return _parsed(functools.partial(parse, Runs), content)


def _parsed(parser: Callable[..., object], content: bytes) -> object:
    try:
        return parser(json.loads(content), prog="lingshu", description="")
    except SystemExit as end:
        assert end.code == 0  # --help
        return None
