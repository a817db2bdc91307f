"""What an optimised TPU program says about itself: estimated cycles, collectives and kernel calls, loops unrolled.

The text of the optimised HLO carries the compiler's own cycle estimate for fusions, copies and the like. Collectives
and Pallas kernels carry none: they are counted here, with bytes, and never hidden in the cycles.
"""

import dataclasses
import functools
import math
import re

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.*?)\s?([a-z][a-z0-9\-]*)\(")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONSTANT = re.compile(r" s32\[\]\S* constant\((\d+)\)")
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_CHAIN = re.compile(r'chain_id="(\d+)"')
_CHANNEL = re.compile(r"channel_id=(\d+)")
_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# The cost estimate a kernel's author gave, if any.
_FLOPS = re.compile(r'"flops":"?(\d+)')
_KERNEL = 'custom_call_target="tpu_custom_call"'


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind in a program; `bytes` is the size of their results, a device."""

    kind: str
    count: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class ProgramCost:
    """Of one execution of a program on one device."""

    cycles: int  # of everything but collectives and kernels
    collectives: tuple[Collective, ...]
    kernel_calls: int  # of Pallas kernels
    kernel_flops: int | None  # None: a kernel does not tell its own


@dataclasses.dataclass
class _Cost:
    cycles: int = 0
    kernels: int = 0
    kernel_flops: float = 0  # NaN: unknown
    collectives: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

    def add(self, other: "_Cost", times: int = 1) -> None:
        self.cycles += other.cycles * times
        self.kernels += other.kernels * times
        self.kernel_flops += other.kernel_flops * times
        for kind, (count, size) in other.collectives.items():
            self.collective(kind, count * times, size * times)

    def collective(self, kind: str, count: int, size: int) -> None:
        have = self.collectives.get(kind, (0, 0))
        self.collectives[kind] = (have[0] + count, have[1] + size)


def program_cost(text: str) -> ProgramCost:
    """Reads the text of an optimised HLO module (`compiled.as_text()`).

    A loop's body counts as often as the loop runs: the known trip count, else the constant its condition compares
    with, else once. Of a conditional's branches the dearest counts.
    """
    computations, entry = _computations(text)

    @functools.cache
    def cost(name: str) -> _Cost:
        total = _Cost()
        chains: set[tuple[str, ...]] = set()
        for line in computations.get(name, ()):
            match = _INSTRUCTION.match(line)
            if match is None:
                continue
            shape, op = match.groups()
            _count_collectives(total, chains, name, shape, op, line)
            cycles = _CYCLES.search(line)
            if cycles:
                total.cycles += int(cycles.group(1))
            _count_kernel(total, line)
            if op == "while":
                total.add(cost(_called(line, "body")), _trips(line, computations))
            elif op == "conditional":
                branches = re.findall(r"%([\w.\-]+)", _attribute(line, "branch_computations")) or [
                    _called(line, "true_computation"),
                    _called(line, "false_computation"),
                ]
                total.add(max((cost(b) for b in branches), key=lambda c: c.cycles))
            elif op == "call":
                total.add(cost(_called(line, "to_apply")))
            elif op in ("fusion", "async-start"):
                count_inside(total, chains, _called(line, "calls"))
        return total

    def count_inside(total: _Cost, chains: set[tuple[str, ...]], name: str) -> None:
        """Collectives and kernels inside a fusion; its cycles are on the fusion itself."""
        for line in computations.get(name, ()):
            match = _INSTRUCTION.match(line)
            if match is None:
                continue
            shape, inner = match.groups()
            _count_collectives(total, chains, name, shape, inner, line)
            _count_kernel(total, line)
            if inner == "fusion":
                count_inside(total, chains, _called(line, "calls"))

    whole = cost(entry)
    kinds = sorted(whole.collectives.items())
    collectives = tuple(Collective(kind, count, size) for kind, (count, size) in kinds)
    flops = None if math.isnan(whole.kernel_flops) else int(whole.kernel_flops)
    return ProgramCost(whole.cycles, collectives, whole.kernels, flops)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    found: dict[str, list[str]] = {}
    entry, lines = "", None
    for line in text.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            lines = found.setdefault(header.group(2), [])
            entry = header.group(2) if header.group(1) else entry
        elif line.startswith("}"):
            lines = None
        elif lines is not None:
            lines.append(line)
    return found, entry


def _count_collectives(
    total: _Cost, chains: set[tuple[str, ...]], computation: str, shape: str, op: str, line: str
) -> None:
    kind = op.removesuffix("-start")
    if kind not in _COLLECTIVES:
        return
    # The compiler spreads an asynchronous collective over several fusions; its parts share a chain.
    chain = _CHAIN.search(line)
    if chain:
        channel = _CHANNEL.search(line)
        key = (kind, chain.group(1), channel.group(1) if channel else "")
        if key in chains:
            return
        chains.add(key)
    if computation.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"  # its fused form: an all-reduce of which each device keeps a slice
    sizes = [_bytes(*m) for m in _SHAPE.findall(shape) if m != ("u32", "")]
    if op in ("all-gather-start", "collective-permute-start"):
        sizes = sizes[len(sizes) // 2 :]  # operands, then results
    total.collective(kind, 1, sum(sizes))


def _count_kernel(total: _Cost, line: str) -> None:
    if _KERNEL in line:
        flops = _FLOPS.search(line)
        total.kernels += 1
        total.kernel_flops += int(flops.group(1)) if flops else math.nan


def _bytes(kind: str, dims: str) -> int:
    bits = 8 if kind == "pred" else int(re.search(r"\d+", kind).group())
    return math.prod(int(n) for n in dims.split(",") if n) * bits // 8


def _attribute(line: str, name: str) -> str:
    match = re.search(rf"\b{name}=(\{{[^}}]*\}}|%?[\w.\-]+)", line)
    return match.group(1) if match else ""


def _called(line: str, name: str) -> str:
    return _attribute(line, name).lstrip("%")


def _trips(line: str, computations: dict[str, list[str]]) -> int:
    known = _TRIPS.search(line)
    if known:
        return int(known.group(1))
    condition = computations.get(_called(line, "condition"), ())
    constants = [int(m.group(1)) for m in map(_CONSTANT.search, condition) if m]
    return max(constants, default=1)
