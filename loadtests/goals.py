"""What Tektin promises of itself, as ratios where another machine would give other figures."""

from dataclasses import dataclass

import measure
from samples import BodySample, MemorySample, Sample, Spread, added, ratio, spread


@dataclass(frozen=True)
class Goal:
    what: str
    wanted: str
    got: str
    met: bool | None
    """None: not measured."""


def judged(what: str, got: Spread | None, sign: str, limit: float, digits: int, unit: str = "") -> Goal:
    wanted = f"{sign} {limit:g}{unit}"
    if got is None:
        return Goal(what, wanted, "not measured", None)
    met = got.median <= limit if sign == "≤" else got.median >= limit
    return Goal(what, wanted, got.show(digits) + unit, met)


def all_of(samples: list[Sample], bodies: list[BodySample], memory: list[MemorySample], idle: int) -> list[Goal]:
    by_way = {way: [sample for sample in samples if sample.way == way] for way in measure.WAYS}
    unary, streaming = (by_way[way] for way in measure.GRPC)
    kept, each = by_way[measure.KEEP_ALIVE], by_way[measure.CONNECTION_EACH]
    beyond = added(kept, "direct")
    own = next((sample for sample in memory if sample.peer == "tektin-l7"), None)
    held = own if own and own.idle_rss else None

    def machine(sample):
        return sample.machine_cpu

    def lab(sample):
        return sample.lab_cpu

    def rate(sample):
        return sample.rate

    def own_cpu(sample):
        return sample.process_cpu

    return [
        judged("Machine CPU a request, L7 ÷ Envoy, keep-alive",
               ratio(kept, machine, "tektin-l7", "envoy"), "≤", 0.4, 2),
        judged("… of it what each adds to a path without a proxy",
               ratio(beyond, lab, "tektin-l7", "envoy"), "≤", 0.4, 2),
        judged("Machine CPU a request, L7 ÷ HAProxy, keep-alive",
               ratio(kept, machine, "tektin-l7", "haproxy"), "≤", 1.0, 2),
        judged("… of it what each adds to a path without a proxy",
               ratio(beyond, lab, "tektin-l7", "haproxy"), "≤", 1.0, 2),
        judged("Requests a second, L4 ÷ nothing, keep-alive",
               ratio(kept, rate, "tektin-l4", "direct"), "≥", 0.95, 3),
        judged("Requests a second, L4 ÷ nothing, a connection a request",
               ratio(each, rate, "tektin-l4", "direct"), "≥", 0.9, 3),
        judged("Flows recorded meanwhile (records ÷ connections)",
               spread(recorded(sample) for sample in each if sample.peer == "tektin-l4"), "≥", 1.0, 3),
        judged("p99 with 64 kept-alive connections, L7 ÷ HAProxy",
               ratio(kept, lambda sample: sample.p99, "tektin-l7", "haproxy"), "≤", 1.0, 2),
        judged("Memory of agent and proxy at rest (RSS)", one(own and own.rss), "≤", 30, 1, " MB"),
        judged(f"Memory of both with {idle:,} idle connections (RSS)", one(held and held.idle_rss), "≤", 150, 1, " MB"),
        judged("Large bodies, throughput, L7 ÷ HAProxy", ratio(bodies, rate, "tektin-l7", "haproxy"), "≥", 0.9, 2),
        judged("Memory grown during a large body", spread(b.grown for b in bodies if b.peer == "tektin-l7"),
               "≤", 8, 1, " MB"),
        judged("gRPC unary, CPU a call of it, L7 ÷ Envoy", ratio(unary, own_cpu, "tektin-l7", "envoy"), "≤", 0.6, 2),
        judged("… what each adds to a path without a proxy",
               ratio(added(unary, "direct"), lab, "tektin-l7", "envoy"), "≤", 0.6, 2),
        judged("gRPC streaming, CPU a message of it, L7 ÷ Envoy",
               ratio(streaming, own_cpu, "tektin-l7", "envoy"), "≤", 0.6, 2),
        judged("… what each adds to a path without a proxy",
               ratio(added(streaming, "direct"), lab, "tektin-l7", "envoy"), "≤", 0.6, 2),
    ]


def one(value: float | None) -> Spread | None:
    return spread([value] if value else [])


def recorded(sample: Sample) -> float:
    """Lost ones do not count, whatever else was recorded."""
    return min(sample.records.seen / sample.requests, 1.0) - sample.records.lost / sample.requests
