"""What a compiled program sends between devices, read from its HLO."""

import dataclasses
import math
import re
from collections import Counter

_KINDS = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
_LINE = re.compile(rf"= (?P<shape>\(?\w+\[[^=]*?) (?P<kind>{_KINDS})(?:-start)?\(")
_ARRAY = re.compile(r"(pred|bf16|[suf]\d+)\[([\d,]*)\]")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_IN_LOOP = re.compile(r'op_name="[^"]*while/body')


@dataclasses.dataclass(frozen=True)
class Collectives:
    """Counts and bytes per device and step."""

    count: Counter[str]
    """Operation -> how often it stands in the program; inside the scan over blocks it runs once per block."""
    bytes_received: int
    """Of all their results, those inside the scan counted once per block."""

    def __str__(self) -> str:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.count.items())) or "none"
        return f"{kinds}; {self.bytes_received / 2**20:,.0f} MiB received per chip and step"


def find_collectives(hlo: str, *, blocks: int) -> Collectives:
    """Collectives of a compiled program.

    Args:
        hlo: `compiled.as_text()`.
        blocks: how often the body of the scan over blocks runs.
    """
    count: Counter[str] = Counter()
    total, seen = 0, set()
    for line in hlo.splitlines():
        found = _LINE.search(line)
        if not found:
            continue
        channel = _CHANNEL.search(line)
        if channel and channel[1] in seen:
            continue  # the same operation, once more in the body of a fusion
        if channel:
            seen.add(channel[1])
        sizes = [_bytes(kind, dims) for kind, dims in _ARRAY.findall(found["shape"])]
        count[found["kind"]] += 1
        total += max(sizes, default=0) * (blocks if _IN_LOOP.search(line) else 1)
    return Collectives(count, total)


def _bytes(kind: str, dims: str) -> int:
    width = 1 if kind == "pred" else int(re.sub(r"\D", "", kind)) // 8
    return width * math.prod(int(size) for size in dims.split(",") if size)
