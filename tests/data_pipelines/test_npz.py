"""An npz file gives arrays or a ValueError, in the memory that its bytes are worth."""

import io
import zipfile

import numpy as np
import pytest

from data_pipelines.npz import read_npz


def _saved(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _header(shape: str, kind: str = "<f8") -> bytes:
    """An npz whose array declares a shape and holds 8 bytes."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(8))
    return file.getvalue()


def test_what_was_saved_is_read(tmp_path):
    content = _saved(a=np.arange(3), b=np.array(["x", "yy"]), c=np.zeros((0, 4)))
    (tmp_path / "a.npz").write_bytes(content)
    for found in (read_npz(content), read_npz(tmp_path / "a.npz")):
        assert list(found) == ["a", "b", "c"] and found["b"].tolist() == ["x", "yy"] and found["c"].shape == (0, 4)
    assert list(read_npz(content, ("b",))) == ["b"]
    assert read_npz(_saved(a=np.zeros(1_000_000)))["a"].size == 1_000_000  # deflates a thousandfold


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK", b"\x80\x04.", bytes(100), _saved(a=np.arange(9))[:-30], _saved(b=np.arange(9)),
        _header("(1000000000000000,)"), _header("(-1,)"), _header("(2,)"), _header("(1,)", "|O"), _header("x"),
        _header("(1,)", "V-3"), _header("1"), _header("(1,)]"),
    ],
)  # fmt: skip
def test_everything_else_is_a_value_error(content):
    with pytest.raises(ValueError):
        read_npz(content, ("a",))
