import json
import pathlib

import pytest

from data_pipelines.errors import InputError
from experiments.runs import all_runs, find_run
from experiments.storage import folder_at, refuse_dangling, storage_of
from tests.buckets import new_bucket, s3_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(XDG_CACHE_HOME=str(tmp_path_factory.mktemp("cache"))) as environment:
        yield environment


@pytest.fixture(params=["disk", "bucket"])
def folder(request, tmp_path):
    if request.param == "disk":
        return tmp_path
    return folder_at(new_bucket(request.getfixturevalue("server"))) / "runs"


def test_lines_grow_and_start_again(folder):
    lines = storage_of(folder).lines(folder / "metrics.jsonl")
    lines.restart([{"step": 1}, {"step": 2}])
    lines.append({"step": 3})
    again = storage_of(folder).lines(folder / "metrics.jsonl")
    again.restart([{"step": 1}])
    again.append({"step": 2})
    assert list(map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())) == [{"step": 1}, {"step": 2}]


def test_other_libraries_read_and_write_by_a_path(folder):
    storage = storage_of(folder)
    with storage.writing(folder / "samples" / "a.h5ad") as path:
        assert isinstance(path, pathlib.Path)
        path.write_bytes(b"cells")
    with storage.writing(folder / "profile") as path:
        (path / "plugins").mkdir(parents=True)
        (path / "plugins" / "trace").write_bytes(b"t")
    with storage.reading(folder / "samples" / "a.h5ad") as path:
        assert path.read_bytes() == b"cells" and path.name == "a.h5ad"
    assert (folder / "profile" / "plugins" / "trace").read_bytes() == b"t"


def test_what_was_begun_and_failed_is_found_again(folder):
    out, storage = folder / "a.h5ad", storage_of(folder)
    with pytest.raises(KeyboardInterrupt), storage.writing(out) as path:
        path.with_name("shard").write_text("drawn")
        raise KeyboardInterrupt
    assert not out.exists()
    with storage.writing(out) as path:
        assert path.with_name("shard").read_text() == "drawn"
        path.write_text("all")
    assert out.read_text() == "all"


def test_the_last_written_comes_last(folder):
    (folder / "x").mkdir(parents=True)
    storage_of(folder).write(folder / "x" / "config.json", b"{}")
    assert storage_of(folder).modified(folder / "x" / "config.json") > 1e9


@pytest.mark.parametrize(
    "url, said",
    [
        ("hdfs://b/runs", "no place for runs. Use a folder that is mounted here, or a gs:// or s3:// URL"),
        ("s3:/b/runs", "no place for runs"),
        ("gs://", "names no bucket. Write gs://BUCKET/runs"),
        ("s3:///x", "names no bucket"),
    ],
)
def test_other_urls_are_refused(url, said):
    with pytest.raises(InputError, match=said):
        folder_at(url)


def test_a_link_to_nothing_is_named(tmp_path):
    link = tmp_path / "runs"
    link.symlink_to(tmp_path / "not-mounted")
    for ask in (lambda: all_runs(link), lambda: find_run("x", link), lambda: refuse_dangling(link / "perturb" / "x")):
        with pytest.raises(InputError, match=r"runs is a symbolic link to .*not-mounted, which is not there"):
            ask()
    (tmp_path / "real" / "perturb").mkdir(parents=True)
    (tmp_path / "real" / "perturb" / "tiny").symlink_to(tmp_path / "gone")
    (tmp_path / "real" / "perturb" / "other").mkdir()
    (tmp_path / "real" / "perturb" / "other" / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"tiny is a symbolic link to .*gone, which is not there"):
        find_run("tiny", tmp_path / "real")
