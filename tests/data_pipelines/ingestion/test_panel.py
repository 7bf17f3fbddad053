import numpy as np
import pytest
import scipy.sparse

from data_pipelines import InputError
from data_pipelines.ingestion.genes import GeneRules, GeneTable, without_version
from data_pipelines.ingestion.pairs import read_pairs
from data_pipelines.ingestion.panel import INTERSECTION, UNION, Alignment, build_panel, read_panel
from lingshu_jax.vocabulary import GenePanel


def _table(*genes, name="b.h5ad", **columns):
    ids = {"index": genes, **{key: tuple(values) for key, values in columns.items()}}
    return GeneTable(name=name, ids=ids, used=np.ones(len(genes), bool))


def _positions(choice, *tables, **rules):
    panel, alignments = build_panel(tables, choice, GeneRules(**rules))
    return panel.genes, [alignment.positions.tolist() for alignment in alignments]


def test_versions_aliases_and_single_cases_find_their_gene():
    assert without_version("ENSG00000141510.18") == "ENSG00000141510"
    assert without_version("ENSG00000182378.15_PAR_Y") == "ENSG00000182378_PAR_Y"
    assert without_version("AL627309.5") == "AL627309.5"  # a clone's name, not a version
    panel = GenePanel(("ENSG00000141510", "C1orf112", "MARCHF1", "ACTB"))
    genes, found = _positions(
        panel, _table("ENSG00000141510.2", "C1ORF112", "MARCH1", "ACTB", "new"), aliases={"MARCH1": "MARCHF1"}
    )
    assert genes == panel.genes
    assert found == [[0, 1, 2, 3, -1]]


def test_a_name_in_another_case_gives_way_to_the_name_itself():
    panel = GenePanel(("C1orf220", "ACTB", "GAPDH"))
    _, (found,) = _positions(panel, _table("C1ORF220", "C1orf220", "ACTB", "Gapdh", "gapdh"))
    assert found == [-1, 0, 1, -1, -1]


def test_union_adds_and_intersection_keeps_what_all_have():
    a, b = _table("x", "y", "z", name="a.h5ad"), _table("z", "w", "x")
    assert _positions(UNION, a, b) == (("x", "y", "z", "w"), [[0, 1, 2], [2, 3, 0]])
    assert _positions(INTERSECTION, a, b) == (("x", "z"), [[0, -1, 1], [1, -1, 0]])


def test_the_column_with_the_right_ids_is_found():
    ids = [f"ENSG{number:011d}" for number in range(3)]
    genes, found = _positions(UNION, _table(*ids, name="a.h5ad"), _table("A", "B", "C", gene_ids=ids[::-1]))
    assert (genes, found) == (tuple(ids), [[0, 1, 2], [2, 1, 0]])
    with pytest.raises(InputError, match=r"no gene column 'symbol' .present: index, gene_ids"):
        _positions(UNION, _table("A", gene_ids=["E"]), column="symbol")


def test_another_species_or_other_ids_are_refused():
    human, mouse = _table("ACTB", "TP53", "CD3E", name="a.h5ad"), _table("Actb", "Tp53", "Cd3e")
    with pytest.raises(InputError, match="3 of 3 genes agree with the panel in all but case"):
        _positions(UNION, human, mouse)
    assert _positions(UNION, human, mouse, ignore_case=True)[1][1] == [0, 1, 2]
    many = _table(*[f"g{number}" for number in range(100)], name="a.h5ad")
    few = _table(*[f"h{number}" for number in range(99)], "g1")
    with pytest.raises(InputError, match="only 1 of 100 possible genes"):
        _positions(UNION, many, few)
    assert len(_positions(UNION, many, few, min_mapped=0.01)[0]) == 199
    with pytest.raises(InputError, match="no gene in common"):
        _positions(UNION, human, _table("1", "2"))


def test_two_columns_of_one_gene_are_refused_or_summed():
    twice = _table("ENSG00000000001.1", "ENSG00000000001.2", "ENSG00000000002.1")
    panel = GenePanel(("ENSG00000000001", "ENSG00000000002"))
    with pytest.raises(InputError, match=r"2 duplicate gene names .* --genes.duplicates sum"):
        build_panel([twice], panel, GeneRules())
    _, (alignment,) = build_panel([twice], panel, GeneRules(duplicates="sum"))
    counts = scipy.sparse.csr_matrix(np.array([[1, 2, 3], [0, 5, 0]]))
    np.testing.assert_array_equal(alignment.align(counts, where="a").toarray(), [[3, 3], [5, 0]])
    assert build_panel([_table("a", "a", "b")], UNION, GeneRules(duplicates="sum"))[0].genes == ("a", "b")


def test_sums_of_columns_are_exact_or_refused():
    _, (alignment,) = build_panel([_table("a", "a", "b")], UNION, GeneRules(duplicates="sum"))
    largest = np.iinfo(np.int32).max
    counts = scipy.sparse.csr_matrix(np.array([[largest - 1, 1, 3]], np.int32))
    assert alignment.align(counts, where="a").toarray().tolist() == [[largest, 3]]
    with pytest.raises(InputError, match="a: the counts of columns that mean one gene sum to 4,294,967,294"):
        alignment.align(counts[:, [0, 0, 2]] + counts[:, [1, 1, 1]], where="a")


def test_dropped_genes_leave_the_others_in_their_rows():
    counts = scipy.sparse.random(50, 8, 0.4, "csr", rng=np.random.default_rng(0))
    positions = np.array([3, -1, 0, -1, 2, 1, -1, 4], np.int32)
    aligned = Alignment(positions, 6).align(counts, where="a").toarray()
    kept = positions >= 0
    np.testing.assert_array_equal(aligned[:, positions[kept]], counts.toarray()[:, kept])
    assert not aligned[:, 5].any()
    report = Alignment(positions, 6).report()
    assert (report["mapped"], report["dropped"], report["missing"]) == (5, 3, 1)


def test_panels_and_aliases_from_files(tmp_path):
    (tmp_path / "p.csv").write_text("gene,chromosome\nA,1\nB,2\n")
    assert read_panel(tmp_path / "p.csv").genes == ("A", "B")
    for name, text in {"p.csv": "gene\nA\nB\n", "alias.csv": "A,B\n"}.items():  # as spreadsheets write UTF-8
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert read_panel(tmp_path / "p.csv").genes == ("A", "B")
    assert read_pairs(tmp_path / "alias.csv", "alias", "gene") == {"A": "B"}
    (tmp_path / "twice.txt").write_text("A\nA\n")
    (tmp_path / "empty.txt").write_text("gene\n")
    (tmp_path / "alias.csv").write_text("MARCH1,MARCHF1\nbroken\n")
    for call, match in (
        (lambda: read_panel(tmp_path / "none.csv"), "cannot be read"),
        (lambda: read_panel(tmp_path / "twice.txt"), "lists 'A' twice"),
        (lambda: read_panel(tmp_path / "empty.txt"), "has no genes"),
        (lambda: read_pairs(tmp_path / "alias.csv", "alias", "gene"), "line 2: expected one 'alias,gene'"),
    ):
        with pytest.raises(InputError, match=match):
            call()
