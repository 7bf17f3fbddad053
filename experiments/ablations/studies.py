"""Every study: small trainings, so that all settings fit into hours on two cores."""

from data_pipelines.errors import InputError
from experiments.ablations.study import Study, Variant
from experiments.configs import pbmc_ifnb_two_donors
from experiments.real_cells.task import Task
from lingshu_jax.vocabulary import nearest

_DONORS = Task(experiment="pbmc-ifnb-two-donors", data=pbmc_ifnb_two_donors.DATA, reads=())
_SHORT = tuple("--training.steps 400 --training.evaluate-draws 8".split())


def _variant(name: str, settings: str) -> Variant:
    return Variant(name=name, settings=tuple(settings.split()))


STUDIES = (
    Study(
        name="start-and-factors",
        task=_DONORS,
        settings=_SHORT,
        variants=(
            _variant("no start, no factors (paper)", "--model.start none --model.factors none"),
            _variant("start at log-frequencies, no factors", "--model.start log-frequency --model.factors none"),
            _variant("no factors", "--model.factors none"),
            _variant("rank 8", "--model.factors.rank 8"),
            _variant("rank 128", "--model.factors.rank 128"),
            _variant("labels start at the mean of all", "--model.start.label-rank 0"),
        ),
    ),
    Study(
        name="size",
        task=_DONORS,
        settings=_SHORT,
        variants=(
            _variant("width 32", "--model.width 32 --model.ffn-width 64"),
            _variant("width 128", "--model.width 128 --model.heads 2 --model.ffn-width 256"),
            _variant("1 block", "--model.blocks 1"),
            _variant("4 blocks", "--model.blocks 4"),
            _variant("4 genes per patch", "--model.genes-per-patch 4"),
            _variant("32 genes per patch", "--model.genes-per-patch 32"),
            _variant("zero counts have an input, as in the paper", "--model.no-zero-origin"),
            _variant("patch inputs not scaled up", "--model.input-scale 1"),
        ),
    ),
    Study(
        name="training",
        task=_DONORS,
        settings=_SHORT,
        variants=(
            _variant("learning rate 1e-3", "--optimizer.learning-rate 1e-3"),
            _variant("learning rate 1e-2", "--optimizer.learning-rate 1e-2"),
            _variant("no weight decay", "--optimizer.weight-decay 0"),
            _variant("weight decay 0.1", "--optimizer.weight-decay 0.1"),
            _variant("weight decay 1", "--optimizer.weight-decay 1"),
            _variant("no moving average", "--training.ema-decay 0"),
            _variant("moving average 0.995", "--training.ema-decay 0.995"),
            _variant("condition dropout 0", "--training.condition-dropout 0"),
            _variant("condition dropout 0.3", "--training.condition-dropout 0.3"),
            _variant("a tenth of the visible counts shown as 0", "--training.token-noise 0.1"),
            _variant("32 cells per step", "--training.batch-size 32"),
            _variant("128 cells per step", "--training.batch-size 128"),
        ),
    ),
    Study(
        name="gene-order",
        task=_DONORS,
        settings=_SHORT,
        variants=(
            _variant("co-expressed genes in one patch", "--model.gene-order together"),
            _variant("co-expressed genes apart", "--model.gene-order apart"),
        ),
    ),
    Study(
        name="gene-order-without-factors",
        task=_DONORS,
        settings=(*_SHORT, "--model.factors", "none"),
        variants=(
            _variant("co-expressed genes in one patch", "--model.gene-order together"),
            _variant("co-expressed genes apart", "--model.gene-order apart"),
        ),
    ),
)


def chosen_studies(names: tuple[str, ...]) -> list[Study]:
    """The studies of these names; all of them where none is given.

    Raises:
        InputError: there is no such study.
    """
    known = {study.name: study for study in STUDIES}
    for name in names:
        if name not in known:
            raise InputError(f"no study {name!r} (nearest: {nearest(name, known)}). There are: {', '.join(known)}.")
    return [study for study in STUDIES if not names or study.name in names]
