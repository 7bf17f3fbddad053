"""What a compiled program sends between devices, read from its HLO."""

import dataclasses
import math
import re
from collections import defaultdict

_KINDS = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
_COLLECTIVE = re.compile(rf"= (?P<shape>\(?\w+\[[^=]*?) (?P<kind>{_KINDS})(?P<start>-start)?\(")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) .*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation|async_wrapped)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_LOOP = re.compile(r"\b(body|condition)=%?([\w.-]+)")
_TRIPS = re.compile(r'known_trip_count"?[=:]\{"?n"?:"?(\d+)')
_CONSTANT = re.compile(r"[su]32\[\]\S* constant\((\d+)\)")
_ARRAY = re.compile(r"(pred|bf16|[suf]\d+)\[([\d,]*)\]")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_GROUPS = re.compile(
    r"replica_groups=(?:mesh\[(?P<mesh>[^\]]*)\] \{(?P<axes>[^}]*)\}|\[\d+,(?P<size>\d+)\]|\{\{(?P<members>[\d,]+)\})"
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One kind of exchange at one place of a program."""

    kind: str
    size: int
    """Bytes of its largest array on one device: what an all-gather makes, what an all-reduce sums."""
    group: int
    """Devices that take part in it together."""
    times: int
    """How often it runs in a step."""

    @property
    def bytes_sent(self) -> float:
        """Bytes that one device sends per step when the group is a ring."""
        around = (self.group - 1) / self.group
        share = {"all-reduce": 2 * around, "collective-permute": 1.0}.get(self.kind, around)
        return self.times * self.size * share


@dataclasses.dataclass(frozen=True)
class Collectives:
    """Every exchange of a program."""

    all: tuple[Collective, ...]

    @property
    def bytes_sent(self) -> dict[str, float]:
        """Kind -> bytes that one device sends per step."""
        total: dict[str, float] = defaultdict(float)
        for one in self.all:
            total[one.kind] += one.bytes_sent
        return dict(sorted(total.items()))

    def __str__(self) -> str:
        parts = [f"{kind} {size / 2**20:,.0f}" for kind, size in self.bytes_sent.items() if size >= 2**19]
        return f"sends MiB per chip and step: {', '.join(parts) or 'nothing'}"


def find_collectives(hlo: str) -> Collectives:
    """Collectives of a compiled program, `compiled.as_text()`; those in loops as often as the loop runs."""
    bodies, entry = _computations(hlo)
    runs = _runs(bodies, entry)
    found, seen = [], set()
    for name, lines in bodies.items():
        for line in lines:
            match = _COLLECTIVE.search(line)
            if not match or not runs[name]:
                continue
            channel = _CHANNEL.search(line)
            if channel and channel[1] in seen:
                continue  # the same operation, once more in the body of a fusion
            if channel:
                seen.add(channel[1])
            group = _group(line)
            if group > 1:
                # The TPU compiler's reduce-scatter: an all-reduce and the slice of it, fused under this name.
                kind = "reduce-scatter" if name.startswith("all-reduce-scatter") else match["kind"]
                found.append(Collective(kind, _size(match, group), group, runs[name]))
    return Collectives(tuple(found))


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    bodies: dict[str, list[str]] = {}
    entry = current = ""
    for line in hlo.splitlines():
        if line and not line[0].isspace():
            opened = _COMPUTATION.match(line)
            if opened:
                current = opened["name"]
                bodies[current] = []
                entry = current if opened["entry"] else entry
        elif current:
            bodies[current].append(line)
    return bodies, entry


def _runs(bodies: dict[str, list[str]], entry: str) -> dict[str, int]:
    """How often each computation runs in one step."""
    calls: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, lines in bodies.items():
        for line in lines:
            body = dict(_LOOP.findall(line)).get("body")
            for called in {*_CALLED.findall(line), *_names(_BRANCHES.search(line))}:
                calls[name].append((called, _trips(line, bodies) if called == body else 1))
    runs: dict[str, int] = defaultdict(int)
    todo = [(entry, 1)]
    while todo:
        name, times = todo.pop()
        runs[name] += times
        todo += [(called, times * more) for called, more in calls[name]]
    return runs


def _trips(line: str, bodies: dict[str, list[str]]) -> int:
    """How often a loop runs: as it says, or else the limit that its condition compares with."""
    told, condition = _TRIPS.search(line), dict(_LOOP.findall(line)).get("condition", "")
    if told:
        return int(told[1])
    limits = [int(n) for text in bodies.get(condition, ()) for n in _CONSTANT.findall(text)]
    return max(limits, default=1)


def _names(branches: re.Match[str] | None) -> list[str]:
    return [] if branches is None else [name.strip().lstrip("%") for name in branches[1].split(",")]


def _group(line: str) -> int:
    """Devices that exchange together: by axes of a mesh, by their number, or as a list."""
    told = _GROUPS.search(line)
    if told is None:
        return 2
    if told["mesh"]:
        sizes = {axis: int(size) for axis, size in re.findall(r"'([^']+)'=(\d+)", told["mesh"])}
        return math.prod(sizes.get(axis, 1) for axis in re.findall(r"'([^']+)'", told["axes"]))
    return int(told["size"]) if told["size"] else len(told["members"].split(","))


def _size(match: re.Match[str], group: int) -> int:
    """Bytes of the whole: what an all-gather makes, what an all-reduce or reduce-scatter sums."""
    total = sum(_bytes(kind, dims) for kind, dims in _ARRAY.findall(match["shape"]))
    kind, start = match["kind"], match["start"]
    if kind == "reduce-scatter":
        return total * group // (group + 1) if start else total * group
    if start and kind == "all-gather":
        return total * group // (group + 1)  # its type names what goes in beside what comes out
    return total // 2 if start and kind in ("collective-permute", "all-to-all") else total


def _bytes(kind: str, dims: str) -> int:
    width = 1 if kind == "pred" else int(re.sub(r"\D", "", kind)) // 8
    return width * math.prod(int(size) for size in dims.split(",") if size)
