"""`python -m experiments.licences`: docs/licenses.md, the licence of every package that ours asks for."""

import configparser
import importlib.metadata
import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "licenses.md"
HEAD = """# Licences of the dependencies

What `setup.cfg` asks for, and what came with it where this page was written (`python -m experiments.licences`).
Packages that these need in turn are pinned in `constraints.txt`. lingshu_jax itself:
Apache-2.0, see [LICENSE](../LICENSE).

| package | for | version | licence |
|---|---|---|---|
"""
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def requirements() -> Iterator[tuple[str, str]]:
    """(extra, package) of setup.cfg; the extra of what everybody needs is empty."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    groups = {"": setup["options"]["install_requires"], **setup["options.extras_require"]}
    for extra, text in groups.items():
        for line in text.split("\n"):
            if found := _NAME.match(line.strip()):
                yield extra, found[0].lower()


def licence_of(package: str) -> tuple[str, str]:
    """Version and licence as the installed package states them; empty where it is not installed."""
    try:
        told = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return "", ""
    classifiers = [line.split(" :: ")[-1] for line in told.get_all("Classifier") or () if line.startswith("License ::")]
    stated = (told.get("License-Expression") or "").strip() or ", ".join(classifiers)
    return told["Version"], stated or next(iter((told.get("License") or "not stated").strip().splitlines()))[:60]


def page() -> str:
    """The page, by package."""
    wanted: dict[str, list[str]] = {}
    for extra, package in requirements():
        wanted.setdefault(package, []).append(extra or "all")
    rows = []
    for package, extras in sorted(wanted.items()):
        version, licence = licence_of(package)
        rows.append(f"| {package} | {', '.join(extras)} | {version or 'not installed here'} | {licence or '–'} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
