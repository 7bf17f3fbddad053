import pytest

from experiments.commands.inspect import store_name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cells.h5ad", "cells.store"),
        ("plates/*.h5ad", "plates.store"),
        ("./plates/[ab].h5ad", "plates.store"),
        ("*.h5ad", "cells.store"),
        ("runs/a/filtered_feature_bc_matrix", "filtered.store"),
    ],
)
def test_a_store_is_named_after_its_input_or_the_folder_of_a_pattern(given, name):
    assert store_name(given) == name
