"""The page: tables change, prose does not."""

import pytest

from data_pipelines.errors import InputError
from experiments.real_cells.page import read_page, with_tables, write_page

PAGE = "# Title\n\nProse.\n\n<!-- table: a -->\nold\n<!-- end of table: a -->\n\nMore prose.\n"


def test_tables_are_replaced_and_prose_is_kept(tmp_path):
    page = tmp_path / "results.md"
    page.write_text(PAGE)
    assert write_page(page, with_tables(read_page(page), {"a": ["| new |"], "b": ["| other |"]}, "unused"))
    text = page.read_text()
    assert "old" not in text and "| new |" in text and "Prose." in text and "More prose." in text
    assert text.endswith("## b\n\n<!-- table: b -->\n\n| other |\n\n<!-- end of table: b -->\n")
    assert not write_page(page, with_tables(read_page(page), {"b": ["| other |"]}, "unused"))
    assert page.read_text() == text  # a table that nothing is found of stays


def test_a_page_that_is_not_there_is_made(tmp_path):
    assert read_page(tmp_path / "none.md") == []
    write_page(tmp_path / "new" / "page.md", with_tables([], {"a": ["| 1 |"]}, "Results"))
    assert (tmp_path / "new" / "page.md").read_text().startswith("# Results\n\n## a\n")


@pytest.mark.parametrize(
    "text",
    [
        "<!-- table: a -->\nprose",
        "<!-- end of table: a -->",
        "<!-- table: a -->\n<!-- table: b -->",
        "<!-- table: a -->\n<!-- end of table: b -->",
    ],
)
def test_markers_that_do_not_pair_up_are_refused(tmp_path, text):
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(InputError, match="table"):
        read_page(tmp_path / "page.md")
