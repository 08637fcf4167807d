"""The part of the report about Kafka. It has its own place in RESULTS.md, between two marks."""

from dataclasses import dataclass
from pathlib import Path

from goals import judged
from report.markdown import table
from report.sections import goal_table
from samples import Spread, ratio, spread
from settings import Settings

BEGIN, END = "<!-- kafka: begin -->", "<!-- kafka: end -->"
TITLES = {"produce": "Produce (acks=1, linger 5 ms, batches of 1 MB)", "consume": "Consume (without checking checksums)"}

HOW = """\
{facts}

Apache Kafka 4.3 with its log in memory, librdkafka as the client, messages of {message:,} octets, {octets:,.0f} MB a
measurement, {rounds} round(s), each way after the other in every round, each round beginning with another one.
The client runs on core {load}, broker, agent and proxy on core {node}. "Nothing" is a broker of its own behind
a node without Tektin; "L4" is a port of the same broker as "L7" that only a rule of layer 4 guards. MB are 10⁶ octets of
messages. "Of it" is the CPU time of agent and proxy, "of the lab" that of client, broker and what stands between.
Before and after, each had to show that it lets the topic pass, and L7 that it denies another one.
Before the load {background:.1%} of the machine was busy.{warning}
"""


@dataclass(frozen=True)
class Sample:
    """One transfer. CPU times are milliseconds a MB."""

    round: int
    way: str
    peer: str
    rate: float
    """MB a second."""
    process_cpu: float
    lab_cpu: float

    def show(self) -> str:
        return f"{self.way}, {self.peer}: {self.rate:,.0f} MB/s, {self.process_cpu:.2f} ms CPU a MB of it, {self.lab_cpu:.2f} of the lab"


def section(facts: list[tuple[str, str]], samples: list[Sample], rounds: int, octets: int, message: int,
            background: float, wanted: Settings) -> str:
    how = HOW.format(
        facts="".join(f"- {name}: {fact}\n" for name, fact in facts).rstrip(), message=message, octets=octets / 1e6,
        rounds=rounds, load=wanted.load_cpus, node=wanted.node_cpus, background=background,
        warning=" **The machine was not quiet: do not trust these figures.**" if background > 0.05 else "")
    goals = [
        judged(f"Kafka, {way}: MB a second, L7 ÷ nothing", against(samples, way, "rate"), "≥", 0.9, 2) for way in TITLES
    ]
    parts = [BEGIN, "## Kafka\n", how, goal_table(goals)]
    for way, title in TITLES.items():
        parts += [f"### {title}\n", way_table([sample for sample in samples if sample.way == way])]
    return "\n".join([*parts, END]) + "\n"


def against(samples: list[Sample], way: str, what: str) -> Spread | None:
    own = [sample for sample in samples if sample.way == way]
    return ratio(own, lambda sample: getattr(sample, what), "Tektin L7", "nothing")


def way_table(samples: list[Sample]) -> str:
    rows = []
    for peer in dict.fromkeys(sample.peer for sample in samples):
        own = [sample for sample in samples if sample.peer == peer]
        over = ratio(samples, lambda sample: sample.rate, peer, "nothing")
        rows.append([
            peer,
            spread(sample.rate for sample in own).show(0),
            "–" if peer == "nothing" else over.show(2),
            "–" if peer == "nothing" else spread(sample.process_cpu for sample in own).show(2),
            spread(sample.lab_cpu for sample in own).show(2),
        ])
    return table(["Between", "MB/s", "÷ nothing", "CPU/MB of it, ms", "of the lab, ms"], rows)


def own_part(text: str) -> str:
    if BEGIN not in text or END not in text:
        return ""
    return BEGIN + text.split(BEGIN, 1)[1].split(END, 1)[0] + END + "\n"


def replace(results: Path, part: str) -> None:
    """Writes this section, leaving the rest as it is."""
    before = results.read_text() if results.exists() else ""
    old = own_part(before)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(before.replace(old, part) if old else before.rstrip("\n") + ("\n\n" if before else "") + part)
