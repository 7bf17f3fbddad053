"""No data can bring code along: the calls that would run some do not occur in our sources."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("lingshu_jax", "data_pipelines", "experiments")
MODULES = frozenset(("pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch", "jsonpickle"))
"""Never imported."""
CALLS = frozenset(
    ("eval", "exec", "compile", "__import__", "os.system", "os.popen", "pd.read_pickle", "pandas.read_pickle",
     "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "np.fromregex", "jinja2.Template")
)  # fmt: skip
"""Never called: none of them is needed for what we read."""
ARGUMENTS = frozenset(("allow_pickle", "shell"))
"""Never anything but False."""


def forbidden(source: str) -> Iterator[str]:
    """What in a source may run code that it reads, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [module] if module else [alias.name for alias in node.names]
            yield from (
                f"line {node.lineno} imports {name}" for name in names if name and name.split(".")[0] in MODULES
            )
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS:
                yield f"line {node.lineno} calls {called}"
            for keyword in node.keywords:
                no = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in ARGUMENTS and not no:
                    yield f"line {node.lineno} passes {ast.unparse(keyword)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_our_sources_run_nothing_that_they_read(package):
    files = sorted((ROOT / package).rglob("*.py"))
    found = [f"{path.relative_to(ROOT)}: {what}" for path in files for what in forbidden(path.read_text())]
    assert files and not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import joblib.numpy_pickle", "import torch", "import shelve as s",
        "eval('1')", "exec(text)", "os.system(command)", "yaml.load(text)", "yaml.unsafe_load(text)",
        "np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=given)", "subprocess.run(text, shell=True)",
        "pd.read_pickle(path)", "def f():\n    import dill",
    ],
)  # fmt: skip
def test_what_would_run_it_is_found(source):
    assert list(forbidden(source))


def test_templates_escape_what_they_show():
    """`| safe` is of our own script alone, which no data goes into."""
    for template in ROOT.glob("experiments/**/*.jinja"):
        unescaped = [line.strip() for line in template.read_text().splitlines() if "safe" in line and "{{" in line]
        assert unescaped == ["<script>{{ script | safe }}</script>"]
        assert "{% autoescape" not in template.read_text()
