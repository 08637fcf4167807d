"""What was measured: one sample a round, way and peer; and how samples become a figure."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from peers import Records


@dataclass(frozen=True)
class Sample:
    """One measurement with wrk or h2load. CPU times are microseconds a request."""

    round: int
    way: str
    peer: str
    rate: float
    """Requests a second."""
    p50: float
    """Microseconds, as p99."""
    p99: float
    process_cpu: float
    machine_cpu: float
    lab_cpu: float
    """Client, backend and what stands between; 0 without control groups."""
    stolen: float
    """Share of the machine's time that the hypervisor took."""
    load_cpu: float
    """Share of one core that the load generator took; 0: it does not say."""
    failed: int
    repeated_syns: int
    requests: int
    records: Records | None
    """What was recorded meanwhile, where the peer records."""


@dataclass(frozen=True)
class BodySample:
    round: int
    peer: str
    rate: float
    """MiB a second."""
    machine_cpu: float
    """Milliseconds a GiB, as process_cpu and lab_cpu."""
    process_cpu: float
    lab_cpu: float
    grown: float
    """MiB, by which the most memory during the transfer exceeded that before it."""


@dataclass(frozen=True)
class Failure:
    """A measurement that gave no figure."""

    round: int
    way: str
    peer: str
    what: str


@dataclass(frozen=True)
class MemorySample:
    peer: str
    rss: float
    """MiB when nothing has happened yet, as pss."""
    pss: float
    idle_rss: float = 0
    """With the idle connections, as idle_pss."""
    idle_pss: float = 0
    failure: str = ""


@dataclass(frozen=True)
class Spread:
    """The middle of the rounds, and how far they lie apart."""

    median: float
    low: float
    high: float

    def show(self, digits: int) -> str:
        middle, low, high = (f"{value:,.{digits}f}" for value in (self.median, self.low, self.high))
        return middle if low == high else f"{middle} ({low}–{high})"


def spread(values: Iterable[float]) -> Spread | None:
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def ratio(samples: list, value: Callable, of: str, to: str) -> Spread | None:
    """`of` over `to`, round by round, so that what slows a whole round cancels out."""
    tops = {sample.round: value(sample) for sample in samples if sample.peer == of}
    bottoms = {sample.round: value(sample) for sample in samples if sample.peer == to}
    return spread(tops[r] / bottoms[r] for r in sorted(tops.keys() & bottoms.keys()) if bottoms[r] > 0)


def added(samples: list[Sample], base: str) -> list[Sample]:
    """The samples with the lab's CPU a request less that of `base` in the same round: what a peer adds
    to a path that is there without it."""
    bases = {sample.round: sample.lab_cpu for sample in samples if sample.peer == base}
    return [
        replace(sample, lab_cpu=sample.lab_cpu - bases[sample.round])
        for sample in samples
        if sample.peer != base and sample.round in bases
    ]
