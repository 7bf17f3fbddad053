import pytest
from etils import epath
from obstore.exceptions import GenericError, PermissionDeniedError

from lingshu_jax.buckets import files, in_bucket
from lingshu_jax.buckets.files import place_of, register_buckets
from tests.buckets import new_bucket, s3_server


@pytest.fixture(scope="module")
def bucket():
    with s3_server() as environment:
        register_buckets()
        yield epath.Path(new_bucket(environment)) / "team"


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_are_written_read_listed_moved_and_deleted(bucket):
    folder = bucket / "a"
    assert not folder.exists()
    folder.mkdir(parents=True)
    assert folder.is_dir() and names(folder) == []
    (folder / "x.txt").write_text("x")
    (folder / "deep" / "y.bin").write_bytes(b"y" * 10)
    assert names(folder) == ["deep", "x.txt"] and (folder / "deep").is_dir()
    assert (folder / "x.txt").read_text() == "x" and (folder / "deep" / "y.bin").stat().length == 10
    assert [path.name for path in bucket.glob("*/x.txt")] == ["x.txt"]
    (bucket / "aside").mkdir()
    folder.rename(bucket / "aside" / "b")
    assert not folder.exists() and names(bucket / "aside" / "b") == ["deep", "x.txt"]
    (bucket / "aside" / "b" / "x.txt").unlink()
    (bucket / "aside" / "b").rmtree()
    assert not (bucket / "aside" / "b").exists()


def test_a_large_file_is_read_in_ranges(bucket):
    content = bytes(range(256)) * 80_000
    (bucket / "large").write_bytes(content)
    with (bucket / "large").open("rb") as file:
        file.seek(10_000_001)
        assert file.read(7) == content[10_000_001:10_000_008] and file.tell() == 10_000_008
    assert (bucket / "large").read_bytes() == content


def test_what_is_not_there_is_said_as_on_a_disk(bucket):
    for act in ((bucket / "no").read_text, (bucket / "no").unlink, (bucket / "no").rmtree, (bucket / "no").stat):
        with pytest.raises(FileNotFoundError) as error:
            act()
        assert str(bucket / "no") in str(error.value)
    with pytest.raises(OSError, match="bucket does not exist"):
        epath.Path("s3://nobody-has-this/x").write_text("x")


@pytest.mark.parametrize("error", [PermissionDeniedError, GenericError])
def test_what_a_bucket_does_not_tell_is_not_taken_for_absent(bucket, monkeypatch, error):
    def refuse(*arguments, **options):
        raise error("Server returned 403: <Message>Access Denied</Message>")

    for name in ("head", "list", "list_with_delimiter"):
        monkeypatch.setattr(files.obstore, name, refuse)
    folder = bucket / "x"
    for ask in (
        folder.exists,
        folder.is_dir,
        folder.is_file,
        lambda: list(folder.glob("*/y")),
        lambda: [*folder.iterdir()],
    ):
        with pytest.raises(OSError, match=r"Access Denied.*x"):
            ask()


def test_places():
    assert in_bucket("gs://b/x") and in_bucket("s3://b") and not in_bucket("/gs://b") and not in_bucket("s3:/b")
    assert place_of("gs://b/x/y")[1] == "x/y"
