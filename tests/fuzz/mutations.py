"""Valid documents made wrong: bytes that are changed, and JSON trees in which a value is something else."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 10**30, -(10**30), 1e308, 0.5, float("nan"), float("inf"), "", "a", "\0", "\n",
    "../..",
    "<script>", "=1+1", "\ud800", [], {}, [[]], [None], [1, 2, 3], {"": None}, {"type": "Experiment"},
    {"value": "x"}, ["a", "a"], [-1], [10**9],
)  # fmt: skip
"""What nobody expects in a place."""


@st.composite
def changed_bytes(draw: st.DrawFn, valid: bytes) -> bytes:
    """A document with a few bytes changed, left out, put in, or cut off."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.integers(0, 4)):
            case 0 if content:
                content[place] = draw(st.integers(0, 255))
            case 1:
                del content[place : place + draw(st.integers(1, 40))]
            case 2:
                content[place:place] = draw(st.binary(max_size=12))
            case 3:
                content[place:place] = content[place : place + draw(st.integers(1, 40))]
            case _:
                del content[place + 1 :]
    return bytes(content)


@st.composite
def changed_tree(draw: st.DrawFn, valid: Any) -> bytes:
    """A JSON document with one or two values replaced, left out, or moved."""
    tree = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 2))):
        tree = _replaced(draw, tree)
    return json.dumps(tree).encode()


def _replaced(draw: st.DrawFn, tree: Any) -> Any:
    """Go down at random, and change what is found there."""
    if not isinstance(tree, dict | list) or not tree or not draw(st.integers(0, 5)):
        return copy.deepcopy(draw(st.sampled_from(ODD)))
    key = draw(st.sampled_from(sorted(tree) if isinstance(tree, dict) else list(range(len(tree)))))
    if not draw(st.integers(0, 8)):
        del tree[key]
    else:
        tree[key] = _replaced(draw, tree[key])
    return tree


def of_document(valid: bytes) -> st.SearchStrategy[bytes]:
    """What may lie where a document should."""
    options = [changed_bytes(valid), st.binary(max_size=60), st.text(max_size=40).map(_encoded)]
    try:
        tree = json.loads(valid)
    except ValueError:
        return st.one_of(*options)
    return st.one_of(changed_tree(tree), changed_tree(tree), *options)


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
