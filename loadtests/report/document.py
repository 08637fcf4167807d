"""The whole report."""

from datetime import datetime, timezone

import goals
import machine
import measure
from peers import Peer
from report import sections
from samples import BodySample, Failure, MemorySample, Sample
from settings import RULE_METHOD, RULE_PATH, Settings

HOW = """\
Client, node and server are network namespaces; each wire is a veth pair with a /32 on either side. The
backend is nginx in the server's namespace with a short answer, for gRPC grpc-go's benchmark service (100
octets each way). Tektin stands in the path unseen; Envoy,
HAProxy and nginx run in the node's namespace, and the client addresses them. All hold the same rule:
method `{method}` and path `{path}` in full, anything else 403; before the first measurement each
had to show that; for gRPC the methods of the benchmark's service, other methods and services refused
(Tektin L4, which sees no requests: that a port without a rule is closed). Tektin records
every flow and every request; the peers write no access log.

{rounds} round(s), {seconds} s a measurement, the peers one after the other in every round, each round
beginning with another one. The load runs on core {load_cpus}; backend, proxies and agent, {workers} worker(s) each, on core {node_cpus}.
"Failed" are wrong or missing answers, "SYNs again" connection attempts that nobody answered in time, over
all rounds. Figures are medians over the rounds (least–most); ratios are made within a round. "Of the machine" is all
CPU time of /proc/stat but idle and stolen, load generator and backend included; "of it" is the CPU time of
what stands between (Tektin: agent and proxy); "of the lab" that of all processes of the measured path,
client and backend included, which is the machine's less what else ran on it. Before the load {background:.1%} of the machine was busy;
the hypervisor took {stolen:.1%} of its time during the measurements.{warning}
"""

BUSY = " **The machine was not quiet: do not trust these figures.**"


def write(settings: Settings, peers: list[Peer], samples: list[Sample], bodies: list[BodySample],
          memory: list[MemorySample], failures: list[Failure], background: float) -> str:
    stolen = sum(sample.stolen for sample in samples) / len(samples) if samples else 0
    facts = [("Date", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")), *machine.rows()]
    versions = list(dict.fromkeys(peer.version for peer in peers if peer.name != "direct"))
    facts.append(("Versions", f"{', '.join(versions)}; source at {machine.commit()}"))
    parts = [
        "# Results of `make bench`\n",
        "".join(f"- {name}: {fact}\n" for name, fact in facts),
        HOW.format(rounds=settings.rounds, seconds=settings.seconds, load_cpus=settings.load_cpus,
                   node_cpus=settings.node_cpus, workers=settings.workers, background=background, stolen=stolen,
                   warning=BUSY if background > 0.05 else "",
                   method=RULE_METHOD, path=RULE_PATH),
    ]
    if any(peer.name.startswith("tektin") for peer in peers):
        found = goals.all_of(samples, bodies, memory, settings.idle_connections)
        parts += ["## Goals\n", sections.goal_table(found)]
    if failures:
        parts += ["## What failed\n", sections.failure_list(failures, peers)]
    for way in measure.WAYS:
        own = [sample for sample in samples if sample.way == way]
        if own:
            parts += [f"## {sections.WAY_TITLES[way]}\n", sections.way_table(own, peers),
                      sections.ratio_table(own, peers), sections.record_lines(own, peers), sections.load_line(own)]
    if bodies:
        parts += [f"## Bodies of {settings.body_mib} MiB (curl, one at a time)\n",
                  sections.body_table(bodies, peers), sections.body_ratio_table(bodies, peers)]
    if memory:
        parts += ["## Memory, MB (2²⁰ octets)\n", sections.memory_table(memory, peers, settings.idle_connections)]
    return "\n".join(part for part in parts if part.strip())
