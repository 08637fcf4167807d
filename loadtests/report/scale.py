"""The part of the report about many rules and about how soon a change holds. It has its own place in
RESULTS.md, between two marks, so that either part can be measured alone."""

from pathlib import Path

from goals import Goal, judged
from report import kafka
from report.markdown import table
from report.sections import goal_table
from samples import Spread

BEGIN, END = "<!-- scale: begin -->", "<!-- scale: end -->"
WANTED_P50, WANTED_P99 = 3, 15

HOW = """\
{facts}

**Engine** (`policy-engine/examples/scale.rs`): 20 rules a document, five identities a rule's peer, one identity in ten a
prefix, the rest label sets of workloads. "Spread": each document selects an endpoint of its own. "Heaped": all select one.
Time is the median (least favourable) of {repetitions}, each after the processor's caches were filled with something else (or
the small size alone would be measured in them); memory is what stays allocated. An endpoint of "heaped" has all the rules.
"""

AGENT_HOW = """\
**Agent** (real maps: ipcache 262,144, peer_class 1,048,576, policy 524,288 entries; full is a refusal): policy files of ten
rules each, five prefixes a rule, over {endpoints} endpoints. The identities here are those of prefixes (and of the endpoints):
one node without a cluster has no others; tens of thousands of label sets are in the engine's table above. "Start" is from
the first line of the agent to its policy being in force, everything read from files. "One rule" is the agent's own time from
the event of the file system to enforcement, acknowledged by the proxy; "one endpoint" is a new label set (identity and
endpoint) that 20 of the rules select, from its request to its policy being in force, without its device.
"""

LATENCY_HOW = """\
**From a policy file to its enforcement**: a SYN each millisecond, each from another port, from one endpoint to another, and
a file renamed into (or out of) the watched directory; the time from just before the rename to the sending of the first SYN that was judged
anew. The probe's step of 1 ms is in the figures. "Load": wrk with 64 connections through an HTTP rule on the same node.
"""


def section(facts: str, engine: list[dict], agent: list[dict], latency: list[dict], repetitions: int) -> str:
    parts = [BEGIN, "## Scale\n", HOW.format(facts=facts, repetitions=repetitions), goal_table(goals(engine, latency)),
             engine_table(engine)]
    if agent:
        parts += [AGENT_HOW.format(endpoints=agent[0]["endpoints"]), agent_table(agent)]
    parts += [LATENCY_HOW, latency_table(latency), END]
    return "\n".join(parts) + "\n"


def goals(engine: list[dict], latency: list[dict]) -> list[Goal]:
    found = []
    spread_rows = sorted((row for row in engine if row["shape"] == "spread"), key=lambda row: row["rules"])
    for what, name in (("rule", "One rule"), ("identity", "One identity"), ("endpoint", "One endpoint")):
        if len(spread_rows) > 1:
            times = [row[what]["p50"] for row in spread_rows]
            growth = times[-1] / times[0]
            found.append(judged(f"{name} more: time at the largest size ÷ at the smallest (sizes 1 : 100)",
                                Spread(growth, growth, growth), "≤", 2, 2))
    for row in latency:
        what = f"{row['change']}, {row['rules']:,} rules, {row['load']}"
        found.append(limit(f"{what}: p50", row["p50"], WANTED_P50))
        found.append(limit(f"{what}: p99", row["p99"], WANTED_P99))
    return found


def limit(what: str, got: float, wanted: float) -> Goal:
    return judged(what, Spread(got, got, got), "≤", wanted, 1, " ms")


def engine_table(rows: list[dict]) -> str:
    def cell(row: dict, what: str) -> str:
        return f"{row[what]['p50']:.0f} ({row[what]['p99']:.0f}), {row[what]['octets'] / 1024:.1f} KB"

    heading = ["Rules / identities", "endpoints", "full compile, ms", "its memory, MB", "one rule, µs", "one identity, µs",
               "one endpoint, µs"]
    return table(heading, [
        [f"{row['shape']}: {row['rules']:,} / {row['identities']:,}", f"{row['endpoints']:,}",
         f"{row['compile']['p50'] / 1000:.1f}", f"{row['compile']['octets'] / 2**20:.1f}",
         cell(row, "rule"), cell(row, "identity"), cell(row, "endpoint")]
        for row in sorted(rows, key=lambda row: (row["shape"] != "spread", row["rules"]))
    ])


def agent_table(rows: list[dict]) -> str:
    heading = ["Rules / identities", "start, s", "agent, MB", "proxy, MB", "entries: ipcache", "peer_class", "policy",
               "one rule, ms", "one endpoint, ms"]
    return table(heading, [
        [f"{row['rules']:,} / {row['identities']:,}", f"{row['start']:.2f}", f"{row['agent_mb']:.0f}", f"{row['proxy_mb']:.0f}",
         *(f"{row['maps'][name]:,}" for name in ("ipcache", "peer_class", "policy")),
         f"{row['rule']:.1f}", f"{row['endpoint']:.1f}"]
        for row in rows
    ])


def latency_table(rows: list[dict]) -> str:
    heading = ["Change", "rules", "load", "changes", "p50, ms", "p99, ms", "most, ms"]
    return table(heading, [
        [row["change"], f"{row['rules']:,}", row["load"], str(row["changes"]),
         f"{row['p50']:.1f}", f"{row['p99']:.1f}", f"{row['most']:.1f}"]
        for row in rows
    ])


def own_part(text: str) -> str:
    if BEGIN not in text or END not in text:
        return ""
    return BEGIN + text.split(BEGIN, 1)[1].split(END, 1)[0] + END + "\n"


def keep_scale(results: Path, text: str) -> None:
    """Writes the report of the peers, leaving this section and Kafka's as they are."""
    before = results.read_text() if results.exists() else ""
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text("\n".join(part for part in (text, own_part(before), kafka.own_part(before)) if part))


def replace(results: Path, part: str) -> None:
    """Writes this section, leaving the rest as it is."""
    before = results.read_text() if results.exists() else ""
    old = own_part(before)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(before.replace(old, part) if old else before.rstrip("\n") + ("\n\n" if before else "") + part)
