import json
import math

import numpy as np
import pytest

from lingshu_jax.vocabulary import (
    CONTROL_ROW,
    NULL_ROW,
    ConditionField,
    ConditionVocabulary,
    GenePanel,
    LibrarySizeField,
    NumberField,
    UnknownLabel,
    nearest,
)

PERTURBATION = ConditionField(
    name="target", kind="perturbation", labels=("STAT1", "STAT6", "A+B"), controls=("non-targeting", "PBS")
)
VOCABULARY = ConditionVocabulary((ConditionField(name="line", labels=("A549", "K562")), PERTURBATION))


def test_panel_survives_json_and_hashes_by_content_and_order():
    panel = GenePanel(("A", "B"))
    assert GenePanel.from_json(json.loads(json.dumps(panel.to_json()))) == panel
    assert panel.hash != GenePanel(("B", "A")).hash
    assert panel.positions == {"A": 0, "B": 1}


def test_panel_refuses_a_gene_twice():
    with pytest.raises(ValueError, match="'A' occurs more than once"):
        GenePanel(("A", "B", "A"))


def test_vocabulary_survives_json_and_is_hashable():
    again = ConditionVocabulary.from_json(json.loads(json.dumps(VOCABULARY.to_json())))
    assert again == VOCABULARY and again.hash == VOCABULARY.hash and hash(again) == hash(VOCABULARY)


def test_rows_are_distinct_and_null_and_control_are_apart():
    rows = [PERTURBATION.row(label) for label in PERTURBATION.labels]
    assert len({NULL_ROW, CONTROL_ROW, *rows}) == PERTURBATION.rows == 5
    assert PERTURBATION.row("PBS") == PERTURBATION.row("non-targeting") == CONTROL_ROW
    assert VOCABULARY.field("line").row("A549") == NULL_ROW + 1


def test_plus_splits_only_unknown_labels_of_the_perturbation():
    assert PERTURBATION.row_set("STAT1+STAT6") == (PERTURBATION.row("STAT1"), PERTURBATION.row("STAT6"))
    assert PERTURBATION.row_set("A+B") == (PERTURBATION.row("A+B"),)
    with pytest.raises(UnknownLabel):
        VOCABULARY.field("line").row_set("A549+K562")


@pytest.mark.parametrize("label", ["STAT1+STAT1", "PBS+STAT1", "STAT1+non-targeting+STAT1"])
def test_a_set_counts_a_member_once_and_no_control(label):
    assert PERTURBATION.row_set(label) == (PERTURBATION.row("STAT1"),)
    assert PERTURBATION.row_set("PBS+non-targeting") == (CONTROL_ROW,)


def test_an_unknown_label_names_the_nearest():
    with pytest.raises(UnknownLabel, match=r"target 'STAT9'.*nearest: STAT"):
        PERTURBATION.row("STAT9")
    with pytest.raises(UnknownLabel, match="this model has: line, target"):
        VOCABULARY.field("donor")


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "perturbation"},
        {"controls": ("ctrl",)},
        {"labels": ("a", "a")},
        {"kind": "perturbation", "labels": ("ctrl",), "controls": ("ctrl",)},
    ],
)
def test_contradictory_fields_are_refused(settings):
    with pytest.raises(ValueError, match="field"):
        ConditionField(name="field", **settings)


def test_two_perturbation_fields_are_refused():
    with pytest.raises(ValueError, match="at most one"):
        ConditionVocabulary((PERTURBATION, ConditionField(name="b", kind="perturbation", controls=("x",))))


def test_nearest_ignores_case():
    assert nearest("stat1", ["STAT1", "JAK2"]).startswith("STAT1")


def test_new_labels_get_rows_behind_the_known_ones():
    old = ConditionVocabulary(
        (
            ConditionField(name="line", labels=("A", "C")),
            ConditionField(name="gone", labels=("x",)),
            ConditionField(name="target", kind="perturbation", labels=("X", "Y"), controls=("ctrl",)),
        )
    )
    new = ConditionVocabulary(
        (
            ConditionField(name="donor", labels=("d",)),
            ConditionField(name="line", labels=("B", "C")),
            ConditionField(name="target", kind="perturbation", labels=("W", "Y"), controls=("PBS", "ctrl")),
        )
    )
    both = old.extended(new)
    assert both.names == ("donor", "line", "target")
    assert both.field("line").labels == ("A", "C", "B")
    assert both.field("target").labels == ("X", "Y", "W") and both.field("target").controls == ("ctrl", "PBS")
    for label in ("X", "Y", "ctrl"):
        assert both.field("target").row(label) == old.field("target").row(label)
    with pytest.raises(ValueError, match="'line' was a category and would become a perturbation"):
        old.extended(ConditionVocabulary((ConditionField(name="line", kind="perturbation", controls=("c",)),)))


DOSE = NumberField(name="dose", mean=2.0, scale=0.5)
MEASURED = ConditionVocabulary((*VOCABULARY.fields, DOSE, LibrarySizeField(mean=8.0, scale=0.4)))


def test_fields_of_numbers_stand_beside_labels_and_survive_json():
    again = ConditionVocabulary.from_json(json.loads(json.dumps(MEASURED.to_json())))
    assert again == MEASURED and hash(again) == hash(MEASURED) and again.hash != VOCABULARY.hash
    assert [field.name for field in again.labelled] == ["line", "target"]
    assert [field.name for field in again.numbers] == ["dose", "log_library_size"]
    assert again.library_size == LibrarySizeField(mean=8.0, scale=0.4) and VOCABULARY.library_size is None
    assert again.contexts == VOCABULARY.contexts and again.perturbation == PERTURBATION


def test_a_vocabulary_from_before_there_were_numbers_opens():
    old = {
        "fields": [
            {"name": "line", "kind": "category", "labels": ["A549", "K562"], "controls": []},
            {"name": "target", "kind": "perturbation", "labels": ["A"], "controls": ["PBS"], "unseen": ["B"]},
        ]
    }
    vocabulary = ConditionVocabulary.from_json(old)
    assert vocabulary.names == ("line", "target") and vocabulary.numbers == ()
    assert vocabulary.perturbation.unseen == ("B",)
    assert "numbers" not in str(vocabulary.to_json())


def test_a_number_has_one_text_and_may_be_left_out():
    assert {DOSE.text(value) for value in (2, 2.0, "2", " 2.00 ", np.float32(2))} == {"2.0"}
    assert {DOSE.text(value) for value in ("", "nan", float("nan"), None, "NA")} == {""}
    assert DOSE.number("1.5") == 1.5 and math.isnan(DOSE.number(""))


@pytest.mark.parametrize("value", ["high", "inf", float("-inf"), "1,5"])
def test_what_is_no_finite_number_is_refused_by_name(value):
    with pytest.raises(UnknownLabel, match=r"^dose '.*' is no finite number"):
        DOSE.text(value)


def test_a_number_far_from_all_training_cells_is_refused():
    assert DOSE.text(6.9) == "6.9"
    with pytest.raises(UnknownLabel, match=r"dose 7.1 lies more than 10 standard deviations .*mean 2, .*deviation 0.5"):
        DOSE.text(7.1)


def test_an_extended_vocabulary_keeps_mean_and_scale():
    new = ConditionVocabulary((ConditionField(name="line", labels=("C",)), NumberField(name="dose", mean=9.0)))
    both = MEASURED.extended(new)
    assert both.names == ("line", "dose") and both.field("dose") == DOSE
    assert both.field("line").labels == ("A549", "K562", "C")
    with pytest.raises(ValueError, match="field 'dose' was a number and would become a category"):
        MEASURED.extended(ConditionVocabulary((ConditionField(name="dose", labels=("low",)),)))


def test_a_scale_must_be_positive():
    with pytest.raises(ValueError, match="'dose' needs a finite mean and a scale > 0"):
        NumberField(name="dose", scale=0.0)
