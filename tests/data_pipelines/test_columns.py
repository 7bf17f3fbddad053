import numpy as np
import pandas as pd
import pytest

from data_pipelines import Columns, InputError, propose_columns
from data_pipelines.columns import check_columns, check_controls, label_text

RNG = np.random.default_rng(0)
CELLS = 240


def _column(labels):
    return pd.Categorical(RNG.choice(np.asarray(labels, dtype=object), CELLS))


def test_labels_are_text_without_missing_values():
    assert label_text(pd.Series([101.0, np.nan, 7.0])).tolist() == ["101", "unknown", "7"]
    assert label_text(pd.Series(["a", None, "", "NaN", " b "])).tolist() == ["a", "unknown", "unknown", "unknown", "b"]
    assert label_text(pd.Series(pd.Categorical(["x", None, "y"]))).tolist() == ["x", "unknown", "y"]
    assert label_text(pd.Series([1, 2])).tolist() == ["1", "2"]


def test_roles_must_be_consistent():
    with pytest.raises(InputError, match="control label"):
        Columns(perturbation="drug")
    with pytest.raises(InputError, match="two roles"):
        Columns(context=("donor",), batch="donor")
    with pytest.raises(InputError, match=r"--columns\.perturbation"):
        Columns(control=("DMSO",))


def test_columns_survive_json():
    columns = Columns(context=("donor", "type"), perturbation="drug", control=("DMSO", "PBS"), batch="lane")
    assert Columns.from_json(columns.to_json()) == columns
    assert columns.fields == ("donor", "type", "drug")


def test_missing_column_is_named_with_what_there_is():
    with pytest.raises(InputError, match=r"no obs column 'cellline' \(nearest: cell_line; present: cell_line, n\)"):
        check_columns(Columns(context=("cellline",)), pd.DataFrame(columns=["cell_line", "n"]), "a.h5ad")


def test_control_that_does_not_occur_is_named_with_the_nearest():
    columns = Columns(perturbation="gene", control=("non_targeting",))
    with pytest.raises(InputError, match=r"'non_targeting' does not occur .*nearest: non-targeting"):
        check_controls(columns, ["STAT1", "non-targeting"], "a.h5ad")


@pytest.mark.parametrize(
    "control", ["non-targeting", "NT", "ctrl", "Control", "PBS", "DMSO", "vehicle", "unstim", "mock"]
)
def test_perturbation_is_known_by_its_control(control):
    obs = pd.DataFrame({"grp": _column([control, "B", "C"]), "arm": _column(["p", "q"])})
    assert propose_columns(obs) == Columns(context=("arm",), perturbation="grp", control=(control,))


@pytest.mark.parametrize(
    "names", [("condition", "donor", "cell_type"), ("grp", "who", "kind"), ("x", "batchless", "y")]
)
def test_factorial_design_under_any_names(names):
    values = (_column(["ctrl", "stim"]), _column(["101", "107"]), _column(["B", "T", "NK"]))
    obs = pd.DataFrame(dict(zip(names, values, strict=True)))
    if names[1] == "batchless":  # a name that looks like a batch is taken for one
        assert propose_columns(obs).batch == "batchless"
        return
    assert propose_columns(obs) == Columns(context=names[1:], perturbation=names[0], control=("ctrl",))


@pytest.mark.parametrize(("target", "replicate"), [("target_gene", "replicate"), ("a", "b")])
def test_perturb_seq_file_with_replicates_has_no_context(target, replicate):
    obs = pd.DataFrame(
        {
            target: _column(["STAT1", "JAK2", "non-targeting"]),
            "cell_line": "THP-1",
            replicate: _column(["rep_1", "rep_2", "rep_3"]),
            "n_counts": RNG.integers(100, 5000, CELLS),
            "barcode": [f"cell{i}" for i in range(CELLS)],
        }
    )
    expected = Columns(perturbation=target, control=("non-targeting",), batch=replicate)
    assert propose_columns(obs, ["STAT1", "JAK2"]) == expected


def test_guides_and_classes_of_a_target_are_no_contexts():
    target = RNG.choice(["STAT1", "JAK2", "non-targeting"], CELLS).astype(object)
    guide = np.array([f"{gene}_g{i % 2}" for i, gene in enumerate(target)], dtype=object)
    obs = pd.DataFrame({"guide": guide, "target": target, "family": target == "STAT1", "line": _column(["K", "L"])})
    obs["family"] = obs["family"].map({True: "stat", False: "other"})
    proposed = propose_columns(obs, ["STAT1", "JAK2"])
    assert (proposed.perturbation, proposed.context) == ("target", ("line",))


def test_one_category_is_the_context_and_repetitions_are_dropped():
    kind = RNG.choice(["B", "T", "NK"], CELLS).astype(object)
    obs = pd.DataFrame({"cell_type": kind, "cell_type_id": [{"B": "0", "T": "1", "NK": "2"}[k] for k in kind]})
    assert propose_columns(obs) == Columns(context=("cell_type",))
    assert propose_columns(pd.DataFrame(index=range(5))) == Columns()


def test_numbers_with_few_values_are_labels_and_measurements_are_not():
    obs = pd.DataFrame({"who": RNG.choice([101, 107], CELLS), "doublet_score": RNG.random(CELLS)})
    assert propose_columns(obs) == Columns(context=("who",))
