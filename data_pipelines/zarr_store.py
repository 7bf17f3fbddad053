"""A `Location` as zarr asks for it. Imported on first use: zarr takes longer to import than `lingshu --help` may."""

from collections.abc import AsyncIterator, Iterable, Mapping

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from data_pipelines.contents import ROOT, check_file
from data_pipelines.location import Location
from data_pipelines.system_errors import told_as_system_errors


class KeyValueStore(Store):
    """What zarr asks of a store, answered by a `Location`."""

    supports_writes: bool = True  # pyright: ignore[reportIncompatibleVariableOverride, reportAssignmentType]
    supports_deletes: bool = True  # pyright: ignore[reportIncompatibleVariableOverride, reportAssignmentType]
    supports_listing: bool = True  # pyright: ignore[reportIncompatibleVariableOverride, reportAssignmentType]

    def __init__(self, location: Location, *, read_only: bool, checksums: Mapping[str, str] | None = None) -> None:
        super().__init__(read_only=read_only)
        self.location, self._checksums = location, checksums or {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyValueStore) and other.location == self.location

    def __hash__(self) -> int:
        return hash(self.location)

    def __str__(self) -> str:
        return str(self.location)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await self.location.kvstore.read(key)
        if found.state != "value":
            return None
        value = bytes(found.value)
        check_file(self.location, key, value, self._checksums)
        made = (prototype or default_buffer_prototype()).buffer
        return made.from_bytes(value[_span(byte_range, len(value))])

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, request) for key, request in key_ranges]

    async def exists(self, key: str) -> bool:
        return self.location.exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        with told_as_system_errors(self.location / key):
            await self.location.kvstore.write(key, value.to_bytes())

    async def delete(self, key: str) -> None:
        self._check_writable()
        self.location.delete([key])

    async def list(self) -> AsyncIterator[str]:
        for key in self.location.list_keys():
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in self.location.list_keys(prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        start = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        for name in sorted({key.removeprefix(start).split("/")[0] for key in self.location.list_keys(start)}):
            yield name


class RootLast(KeyValueStore):
    """Keeps the root's metadata in memory until `publish`: before that nothing opens what is written."""

    def __init__(self, location: Location) -> None:
        super().__init__(location, read_only=False)
        self._root: bytes | None = None

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        if key != ROOT or self._root is None:
            return await super().get(key, prototype, byte_range)
        return (prototype or default_buffer_prototype()).buffer.from_bytes(
            self._root[_span(byte_range, len(self._root))]
        )

    async def exists(self, key: str) -> bool:
        return (key == ROOT and self._root is not None) or await super().exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        if key == ROOT:
            self._root = value.to_bytes()
        else:
            await super().set(key, value)

    @property
    def root(self) -> bytes:
        """The root's metadata."""
        assert self._root is not None
        return self._root

    def publish(self) -> None:
        """Write the root's metadata."""
        self.location.write(ROOT, self.root)


def _span(request: ByteRequest | None, size: int) -> slice:
    match request:
        case RangeByteRequest(start, end):
            return slice(start, end)
        case OffsetByteRequest(offset):
            return slice(offset, None)
        case SuffixByteRequest(suffix):
            return slice(max(0, size - suffix), None)
    return slice(None)
