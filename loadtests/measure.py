"""One measurement: cost before, work, cost after."""

import time
from contextlib import suppress

import cost
import settings
from lab import probe
from load import Load, LoadFailed, body, grpc, h2load, idle, wrk
from peers import Peer, Records
from samples import BodySample, MemorySample, Sample
from settings import Settings

KEEP_ALIVE = "keep-alive"
CONNECTION_EACH = "connection a request"
H2C = "h2c"
GRPC_UNARY = "gRPC unary"
GRPC_STREAMING = "gRPC streaming"
BODY = "large body"
GRPC = (GRPC_UNARY, GRPC_STREAMING)
WAYS = (KEEP_ALIVE, CONNECTION_EACH, H2C, *GRPC)


def ways(peer: Peer, wanted: Settings) -> list[str]:
    """What it is measured with."""
    return [way for way in WAYS if (way not in GRPC or peer.grpc) and (not wanted.ways or way in wanted.ways)]


def load(peer: Peer, way: str, seconds: int, wanted: Settings) -> Load:
    if way in GRPC:
        return grpc.run(peer.client, wanted.grpc, peer.host, peer.grpc, way.removeprefix("gRPC "),
                        settings.GRPC_CONNECTIONS, settings.GRPC_CALLS, seconds)
    if way == H2C:
        url = peer.url(settings.PATH, h2=True)
        return h2load.run(peer.client, url, settings.H2_CONNECTIONS, settings.H2_STREAMS, seconds)
    url = peer.url(settings.PATH)
    return wrk.run(peer.client, url, settings.CONNECTIONS, seconds, connection_each=way == CONNECTION_EACH)


def warm_up(peer: Peer, wanted: Settings) -> None:
    """Fills caches and pools; what breaks here breaks again where it counts."""
    for way in ways(peer, wanted):
        with suppress(LoadFailed):
            load(peer, way, 1, wanted)
    if wanted.ways:
        return
    with suppress(LoadFailed):
        body.fetch(peer.client, peer.url(settings.BIG_PATH), wanted.body_mib)


def requests(peer: Peer, way: str, round: int, wanted: Settings) -> Sample:
    pids = peer.processes()
    recorded = peer.records() if peer.records else None
    repeated = probe.repeated_syns(peer.client)
    group = peer.client.group
    started, before = time.monotonic(), cost.cpu(pids, group)
    done = load(peer, way, wanted.seconds, wanted)
    spent, took = cost.cpu(pids, group).since(before), time.monotonic() - started
    if done.requests == 0:
        raise LoadFailed(f"{peer.title}, {way}: not one request succeeded, {done.failed} failed")
    return Sample(
        round=round,
        way=way,
        peer=peer.name,
        rate=done.requests / done.seconds,
        p50=done.p50,
        p99=done.p99,
        process_cpu=spent.processes * 1e6 / done.requests,
        machine_cpu=spent.machine * 1e6 / done.requests,
        lab_cpu=spent.lab * 1e6 / done.requests,
        stolen=spent.stolen / (took * cost.CORES),
        load_cpu=done.load_cpu / done.seconds,
        failed=done.failed,
        repeated_syns=probe.repeated_syns(peer.client) - repeated,
        requests=done.requests,
        records=recorded_since(peer, recorded),
    )


def recorded_since(peer: Peer, before: Records | None) -> Records | None:
    if before is None:
        return None
    now = peer.records()
    return Records(now.seen - before.seen, now.lost - before.lost)


def large_body(peer: Peer, round: int, wanted: Settings) -> BodySample:
    pids = peer.processes()
    cost.forget_peak(pids)
    at_rest, before = cost.memory(pids).rss, cost.cpu(pids, peer.client.group)
    fetched = body.fetch(peer.client, peer.url(settings.BIG_PATH), wanted.body_mib)
    spent = cost.cpu(pids, peer.client.group).since(before)
    gib = fetched.mib / 1024
    return BodySample(
        round=round,
        peer=peer.name,
        rate=fetched.mib / fetched.seconds,
        machine_cpu=spent.machine * 1e3 / gib,
        process_cpu=spent.processes * 1e3 / gib,
        lab_cpu=spent.lab * 1e3 / gib,
        grown=max(0.0, cost.peak_rss(pids) - at_rest),
    )


def memory_at_rest(peer: Peer) -> MemorySample:
    now = cost.memory(peer.processes())
    return MemorySample(peer.name, now.rss, now.pss)


def memory_with_connections(peer: Peer, at_rest: MemorySample, count: int) -> MemorySample:
    try:
        with idle.held(peer.client, peer.host, peer.h1, settings.PATH, count):
            time.sleep(1)
            held = cost.memory(peer.processes())
    except LoadFailed as failure:
        return MemorySample(peer.name, at_rest.rss, at_rest.pss, failure=str(failure))
    return MemorySample(peer.name, at_rest.rss, at_rest.pss, held.rss, held.pss)


def background(seconds: int) -> float:
    """Share of the machine that is busy while everything is started and no load runs."""
    before = cost.cpu([])
    time.sleep(seconds)
    return cost.cpu([]).since(before).machine / (seconds * cost.CORES)
