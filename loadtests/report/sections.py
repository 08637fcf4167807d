"""The parts of the report, one function each."""

import measure
from goals import Goal
from peers import Peer
from report.markdown import table
from samples import BodySample, Failure, MemorySample, Sample, added, ratio, spread

RATIO_PEERS = ("envoy", "haproxy", "nginx", "direct")


def goal_table(goals: list[Goal]) -> str:
    word = {True: "yes", False: "**no**", None: "–"}
    return table(["Goal", "wanted", "median (min–max)", "met"],
                 [[goal.what, goal.wanted, goal.got, word[goal.met]] for goal in goals])


def way_table(samples: list[Sample], peers: list[Peer]) -> str:
    rows = []
    for peer in peers:
        own = [sample for sample in samples if sample.peer == peer.name]
        if not own:
            continue

        def middle(value, digits):
            return spread(map(value, own)).show(digits)

        rows.append([
            peer.title,
            middle(lambda s: s.rate, 0),
            middle(lambda s: s.process_cpu, 1) if peer.name != "direct" else "–",
            middle(lambda s: s.lab_cpu, 1),
            middle(lambda s: s.machine_cpu, 1),
            middle(lambda s: s.p50 / 1000, 2),
            middle(lambda s: s.p99 / 1000, 2),
            str(sum(s.failed for s in own)),
            str(sum(s.repeated_syns for s in own)),
        ])
    return table(["Between", "requests/s", "CPU/request of it, µs", "of the lab, µs", "of the machine, µs", "p50, ms", "p99, ms", "failed", "SYNs again"],
                 rows)


def ratio_table(samples: list[Sample], peers: list[Peer]) -> str:
    measured = {sample.peer for sample in samples}
    beyond = added(samples, "direct")
    titles = {peer.name: peer.title for peer in peers}
    rows = []
    for own, others in (("tektin-l7", RATIO_PEERS), ("tektin-l4", ("direct",))):
        for other in others:
            if own not in measured or other not in measured:
                continue

            def cell(of, value):
                found = ratio(of, value, own, other)
                return found.show(2) if found else "–"

            rows.append([
                f"{titles[own]} ÷ {titles[other]}",
                cell(samples, lambda s: s.rate),
                cell(samples, lambda s: s.process_cpu),
                cell(samples, lambda s: s.lab_cpu),
                cell(beyond, lambda s: s.lab_cpu),
                cell(samples, lambda s: s.machine_cpu),
                cell(samples, lambda s: s.p50),
                cell(samples, lambda s: s.p99),
            ])
    heading = ["Ratio", "requests/s", "CPU of it", "CPU of the lab", "… beyond nothing", "CPU of the machine", "p50", "p99"]
    return table(heading, rows) if rows else ""


def record_lines(samples: list[Sample], peers: list[Peer]) -> str:
    lines = []
    for peer in peers:
        own = [sample for sample in samples if sample.peer == peer.name and sample.records]
        if own:
            requests, seen, lost = (sum(value) for value in
                                    zip(*((s.requests, s.records.seen, s.records.lost) for s in own), strict=True))
            lines.append(f"{peer.title}: {seen:,} flow records for {requests:,} requests, {lost:,} lost.")
    return "".join(f"{line}\n" for line in lines)


def load_line(samples: list[Sample]) -> str:
    """Whether the figures are the path's and not the load generator's."""
    most = max((sample.load_cpu for sample in samples), default=0)
    behind = [sample.load_cpu for sample in samples if sample.peer not in ("direct", "tektin-l4")]
    if most == 0 or not behind:
        return ""
    return (f"The load generator was busy for at most {most:.0%} of its core's time, {max(behind):.0%} where a proxy "
            "was in between.\n")


def failure_list(failures: list[Failure], peers: list[Peer]) -> str:
    titles = {peer.name: peer.title for peer in peers}
    return "".join(
        f"- {titles[failure.peer]}, {failure.way}, round {failure.round + 1}: {' '.join(failure.what.split())}\n"
        for failure in failures
    )


def body_table(samples: list[BodySample], peers: list[Peer]) -> str:
    rows = []
    for peer in peers:
        own = [sample for sample in samples if sample.peer == peer.name]
        if own:
            between = peer.name != "direct"
            rows.append([
                peer.title,
                spread(s.rate for s in own).show(0),
                spread(s.process_cpu for s in own).show(0) if between else "–",
                spread(s.lab_cpu for s in own).show(0),
                spread(s.machine_cpu for s in own).show(0),
                spread(s.grown for s in own).show(1) if between else "–",
            ])
    return table(["Between", "MiB/s", "CPU/GiB of it, ms", "of the lab, ms", "of the machine, ms", "memory grown, MB"], rows)


def body_ratio_table(samples: list[BodySample], peers: list[Peer]) -> str:
    titles = {peer.name: peer.title for peer in peers}
    measured = {sample.peer for sample in samples}
    rows = [
        [f"Tektin L7 ÷ {titles[other]}", *(
            found.show(2) if (found := ratio(samples, value, "tektin-l7", other)) else "–"
            for value in (lambda s: s.rate, lambda s: s.lab_cpu, lambda s: s.machine_cpu)
        )]
        for other in RATIO_PEERS
        if {"tektin-l7", other} <= measured
    ]
    return table(["Ratio", "MiB/s", "CPU of the lab", "CPU of the machine"], rows) if rows else ""


def memory_table(samples: list[MemorySample], peers: list[Peer], idle: int) -> str:
    titles = {peer.name: peer.title for peer in peers}
    rows = []
    for sample in samples:
        held = [f"{sample.idle_rss:.1f}", f"{sample.idle_pss:.1f}"] if sample.idle_rss else ["failed", "failed"]
        rows.append([titles[sample.peer].replace("Tektin L7", "Tektin (agent and proxy)"),
                     f"{sample.rss:.1f}", f"{sample.pss:.1f}", *held])
    heading = ["", "at rest RSS", "PSS", f"{idle:,} idle connections RSS", "PSS"]
    failures = "".join(f"\n{titles[s.peer]}: {s.failure.strip()}\n" for s in samples if s.failure)
    return table(heading, rows) + failures


WAY_TITLES = {
    measure.KEEP_ALIVE: "HTTP/1.1, 64 kept-alive connections (wrk)",
    measure.CONNECTION_EACH: "HTTP/1.1, a connection a request, 64 at a time (wrk)",
    measure.H2C: "HTTP/2 without TLS, 16 connections with 4 streams each (h2load)",
    measure.GRPC_UNARY: "gRPC, unary calls, 4 connections with 16 at a time each (grpc-go)",
    measure.GRPC_STREAMING: "gRPC, a message each way on a stream that stays, 4 connections with 16 streams each (grpc-go)",
}
