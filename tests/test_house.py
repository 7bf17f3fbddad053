"""The rules of the house: who imports whom, how fast the command line starts, how large a room may grow."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
MAY_IMPORT = {
    "lingshu_jax": {"lingshu_jax"},
    "data_pipelines": {"data_pipelines", "lingshu_jax.tokens", "lingshu_jax.vocabulary", "lingshu_jax.label_terms"},
    "experiments": {"experiments", "data_pipelines", "lingshu_jax"},
}
OURS = tuple(MAY_IMPORT)


def _sources(package: str) -> list[pathlib.Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _imports(path: pathlib.Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name for name in names if name.split(".")[0] in OURS}


@pytest.mark.parametrize("package", OURS)
def test_a_package_imports_only_rooms_above_it(package):
    for path in _sources(package):
        outside = {
            name
            for name in _imports(path)
            if not any(f"{name}.".startswith(f"{room}.") for room in MAY_IMPORT[package])
        }
        assert not outside, f"{path.relative_to(ROOT)} imports {sorted(outside)}"


@pytest.mark.parametrize("statement", ["import lingshu_jax", "from experiments.__main__ import run; run(['--help'])"])
def test_starting_loads_no_jax(statement):
    code = f"import sys\n{statement}\nassert 'jax' not in sys.modules, 'jax was imported'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_files_and_functions_stay_small():
    lengths = []
    for path in (path for package in OURS for path in _sources(package)):
        text = path.read_text()
        lines = text.count("\n")
        lengths.append(lines)
        assert lines <= 400, f"{path.relative_to(ROOT)}: {lines} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= (80 if path.name == "loop.py" else 60), (
                    f"{path.relative_to(ROOT)} {node.name}: {length} lines"
                )
    assert sorted(lengths)[len(lengths) // 2] < 150
