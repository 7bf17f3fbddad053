"""The package's place in the house: what it imports, and how fast it is imported."""

import ast
import pathlib
import subprocess
import sys

import data_pipelines

ROOM = pathlib.Path(data_pipelines.__file__).parent
HEAVY = ("anndata", "absl", "grain", "h5py", "jax", "matplotlib", "pandas", "scanpy", "tensorstore", "torch", "zarr")


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_of_the_model_only_tokens_vocabulary_and_label_terms_are_used():
    allowed = {"lingshu_jax.tokens", "lingshu_jax.vocabulary", "lingshu_jax.label_terms"}
    for path in ROOM.rglob("*.py"):
        ours = {name for name in _imported(path) if name.split(".")[0] in ("lingshu_jax", "experiments")}
        assert ours <= allowed, f"{path.relative_to(ROOM)} imports {sorted(ours - allowed)}"


def test_importing_any_module_loads_nothing_heavy():
    modules = [
        ".".join((ROOM.name, *path.relative_to(ROOM).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(ROOM.rglob("*.py"))
        if path.name != "zarr_store.py"  # a class of zarr's, imported where it is used
    ]
    code = f"import importlib, sys\nfor m in {modules}: importlib.import_module(m)\n"
    code += f"print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOM.parent, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in data_pipelines.__all__:
        assert getattr(data_pipelines, name).__name__ == name
