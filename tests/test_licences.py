"""docs/licenses.md names every package that setup.cfg asks for, and nobody needs one under the GPL."""

import re

import pytest

from experiments.licences import PAGE, licence_of, requirements


@pytest.fixture(scope="module")
def listed():
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    return {row[0]: row for row in rows}


def test_every_package_is_listed_with_who_needs_it(listed):
    wanted = {package for _, package in requirements()}
    assert wanted == listed.keys() and len(wanted) > 40
    for extra, package in requirements():
        assert (extra or "all") in listed[package][1].split(", ")


def test_what_everybody_needs_is_under_no_gpl(listed):
    for extra, package in requirements():
        if extra:
            continue
        version, licence = licence_of(package)
        assert version and licence != "not stated"
        assert not re.search(r"\bA?GPL|General Public", f"{licence} {listed[package][3]}"), package
