#!/usr/bin/env python3
"""`make bench`: HTTP through nothing, Tektin and its peers, one after the other, round by round."""

import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

# Nothing is to stay behind in the source tree.
sys.dont_write_bytecode = True

import measure
import settings
from lab import leftovers, plain
from lab.commands import CommandFailed
from lab.daemon import NotUp
from lab.probe import WrongAnswer
from load import LoadFailed
from peers import Peer, direct, envoy, haproxy, nginx, tektin, tektin_l4, tektin_l7
from report import document
from report import scale as sections
from samples import Failure
from settings import Settings

# In this order in tables. `tektin-l4` and `tektin-l7` share a lab.
NAMES = ("direct", "tektin-l4", "tektin-l7", "envoy", "haproxy", "nginx")


def main() -> int:
    wanted = settings.from_command_line()
    if reason := unfit(wanted):
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    on_signals(interrupt)
    try:
        with ExitStack() as stack:
            try:
                bench(stack, wanted)
            finally:
                # Not to be interrupted in its middle.
                on_signals(signal.SIG_IGN)
                say("cleaning up")
    except KeyboardInterrupt:
        print("bench: interrupted; everything that it made is removed", file=sys.stderr)
        return 130
    except (CommandFailed, NotUp, WrongAnswer, LoadFailed) as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    return 0


def on_signals(handler) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def interrupt(_number, _frame) -> None:
    on_signals(signal.SIG_IGN)
    raise KeyboardInterrupt


def unfit(wanted: Settings) -> str | None:
    if os.geteuid() != 0:
        return "needs root (network namespaces, eBPF)"
    if unknown := set(wanted.only) - set(NAMES):
        return f"no such peer: {', '.join(sorted(unknown))} (there are {', '.join(NAMES)})"
    if any(name.startswith("tektin") for name in chosen(wanted)) and not os.access(wanted.tektin, os.X_OK):
        return f"{wanted.tektin} is not built: run 'make bench'"
    if unknown := set(wanted.ways) - set(measure.WAYS):
        return f"no such way: {', '.join(sorted(unknown))} (there are {', '.join(measure.WAYS)})"
    if not os.access(wanted.grpc, os.X_OK):
        return f"{wanted.grpc} is not there: run './bootstrap.sh bench'"
    if "envoy" in chosen(wanted) and not os.access(wanted.envoy, os.X_OK):
        return f"{wanted.envoy} is not there: run './bootstrap.sh bench'"
    return None


def chosen(wanted: Settings) -> list[str]:
    return [name for name in NAMES if not wanted.only or name in wanted.only]


def bench(stack: ExitStack, wanted: Settings) -> None:
    leftovers.sweep()
    id = f"{leftovers.PREFIX}{os.getpid()}"
    dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{id}-")))
    peers = start(stack, dir, id, wanted)
    for peer in peers:
        say(f"{peer.title}: does what it is measured for?")
        peer.check()
    say("how busy the machine is without load")
    background = measure.background(5)
    say(f"{background:.1%} of it")
    between = [peer for peer in peers if peer.name not in ("direct", "tektin-l4")]
    at_rest = [measure.memory_at_rest(peer) for peer in between]
    samples, bodies, failures = rounds(peers, wanted)
    memory = []
    for peer, rest in [] if wanted.ways else zip(between, at_rest, strict=True):
        say(f"{peer.title}: {wanted.idle_connections:,} idle connections")
        memory.append(measure.memory_with_connections(peer, rest, wanted.idle_connections))
    for peer in peers:
        say(f"{peer.title}: does it still?")
        try:
            peer.check()
        except WrongAnswer as failure:
            failures.append(Failure(wanted.rounds - 1, "afterwards", peer.name, str(failure)))
    text = document.write(wanted, peers, samples, bodies, memory, failures, background)
    sections.keep_scale(wanted.results, text)
    print(f"\n{text}\nwritten to {wanted.results}")


def start(stack: ExitStack, dir: Path, id: str, wanted: Settings) -> list[Peer]:
    names, peers = chosen(wanted), {}
    if set(names) - {"tektin-l4", "tektin-l7"}:
        say("client, node and server, joined by veths; nginx as the backend")
        lab = plain.build(stack, dir, id, wanted)
        if "direct" in names:
            peers["direct"] = direct.start(lab, wanted)
        for module, name in ((envoy, "envoy"), (haproxy, "haproxy"), (nginx, "nginx")):
            if name in names:
                say(f"starting {name}")
                peers[name] = module.start(stack, lab, wanted)
    if {"tektin-l4", "tektin-l7"} & set(names):
        say("the same with Tektin on the node")
        lab = tektin.build(stack, dir, id, wanted)
        peers["tektin-l4"], peers["tektin-l7"] = tektin_l4.start(lab, wanted), tektin_l7.start(lab, wanted)
    return [peers[name] for name in names]


def rounds(peers: list[Peer], wanted: Settings):
    samples, bodies, failures = [], [], []
    total = wanted.rounds * sum(len(measure.ways(peer, wanted)) + (not wanted.ways) for peer in peers)
    for peer in peers:
        say(f"{peer.title}: warming up")
        measure.warm_up(peer, wanted)

    def progress(what: str) -> None:
        say(f"[{len(samples) + len(bodies) + len(failures):3}/{total}] {what}")

    def failed(round: int, way: str, peer: Peer, failure: LoadFailed) -> None:
        """Told in the report: a path that breaks under load is a result, too."""
        failures.append(Failure(round, way, peer.name, str(failure)))
        progress(f"round {round + 1}, {way}, {peer.title}: FAILED: {failure}")

    for round in range(wanted.rounds):
        # Whoever comes after another finds the machine as that one left it, so nobody is always first.
        turn = round % len(peers)
        order = peers[turn:] + peers[:turn]
        for way in measure.WAYS:
            for peer in (peer for peer in order if way in measure.ways(peer, wanted)):
                try:
                    sample = measure.requests(peer, way, round, wanted)
                except LoadFailed as failure:
                    failed(round, way, peer, failure)
                    continue
                samples.append(sample)
                progress(f"round {round + 1}, {way}, {peer.title}: {sample.rate:,.0f} requests/s, "
                         f"{sample.machine_cpu:.1f} µs CPU a request, p99 {sample.p99 / 1000:.2f} ms, "
                         f"{sample.failed} failed, {sample.repeated_syns} SYNs again")
        for peer in [] if wanted.ways else order:
            try:
                body = measure.large_body(peer, round, wanted)
            except LoadFailed as failure:
                failed(round, measure.BODY, peer, failure)
                continue
            bodies.append(body)
            progress(f"round {round + 1}, large body, {peer.title}: {body.rate:,.0f} MiB/s")
    return samples, bodies, failures


def say(text: str) -> None:
    print(f"\033[1m==>\033[0m {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
