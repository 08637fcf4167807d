#!/usr/bin/env python3
"""`make bench-kafka`: MB a second and CPU a MB of producers and consumers, through Tektin and without."""

import argparse
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

sys.dont_write_bytecode = True

import cost
import machine
import measure
import settings
from lab import broker, leftovers, plain, wires
from lab.commands import CommandFailed
from lab.daemon import NotUp
from lab.place import Place
from lab.probe import WrongAnswer
from load import LoadFailed, kafka
from peers import tektin
from report import kafka as report
from report.kafka import Sample

WAYS = ("produce", "consume")
MESSAGE = 10_000

POLICY = {
    "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "kafka", "namespace": "default"},
    "spec": {
        "endpointSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{
            "fromEndpoints": [{"matchLabels": {"app": "client"}}],
            "toPorts": [
                {"ports": [{"port": str(broker.JUDGED), "protocol": "TCP"}], "rules": {"kafka": [
                    {"role": "produce", "topic": kafka.TOPIC},
                    {"role": "consume", "topic": kafka.TOPIC, "groups": ["bench"]},
                ]}},
                {"ports": [{"port": str(broker.L4), "protocol": "TCP"}]},
            ],
        }],
    },
}


@dataclass(frozen=True)
class Route:
    """A way from the client to a broker."""

    name: str
    client: Place
    bootstrap: str
    lab: tektin.TektinLab | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mb", type=int, default=400, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="one short round; leaves RESULTS.md alone")
    args = parser.parse_args()
    sys.argv = sys.argv[:1]
    wanted = settings.from_command_line()
    results = settings.target_dir() / "bench" / "kafka.md" if args.quick else wanted.results
    if missing := broker.is_there():
        print(f"kafka: {missing}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    leftovers.sweep()
    rounds, octets = (1, 100_000_000) if args.quick else (args.rounds, args.mb * 1_000_000)
    try:
        with ExitStack() as stack:
            paths = start(stack, wanted)
            check(paths)
            background = measure.background(5)
            samples = measured(paths, rounds, octets)
            check(paths)
    except (CommandFailed, NotUp, LoadFailed, WrongAnswer) as failure:
        print(f"kafka: {failure}", file=sys.stderr)
        return 1
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    facts = [("Date", date), *machine.rows()[:3], ("Source at", machine.commit())]
    part = report.section(facts, samples, rounds, octets, MESSAGE, background, wanted)
    report.replace(results, part)
    print(f"\n{part}\nwritten to {results}")
    return 0


def start(stack: ExitStack, wanted: settings.Settings) -> list[Route]:
    id = f"{leftovers.PREFIX}{os.getpid()}"
    dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{id}-")))
    say("client, node and server; a broker")
    lab = plain.build(stack, dir, id, wanted)
    broker.start(stack, lab.server, dir / "broker", broker.memory_dir(stack, id, "broker"), wires.SERVER)
    say("the same with Tektin on the node")
    with_tektin = tektin.build(stack, dir, id, wanted, lambda policies: (policies / "kafka.json").write_text(json.dumps(POLICY)))
    server = Place(f"{id}-tserver", with_tektin.group, wanted.node_cpus)
    broker.start(stack, server, dir / "tektin-broker", broker.memory_dir(stack, id, "tektin-broker"), with_tektin.address)
    return [
        Route("nothing", lab.client, f"{wires.SERVER}:{broker.L4}", None),
        Route("Tektin L4", with_tektin.client, f"{with_tektin.address}:{broker.L4}", with_tektin),
        Route("Tektin L7", with_tektin.client, f"{with_tektin.address}:{broker.JUDGED}", with_tektin),
    ]


def check(paths: list[Route]) -> None:
    """Each does what it is measured for."""
    for path in paths:
        for topic in (kafka.TOPIC, kafka.DENIED):
            denied = path.name == "Tektin L7" and topic == kafka.DENIED
            told, right = kafka.told(path.client, broker.python(), path.bootstrap, topic), "TOPIC_AUTHORIZATION_FAILED" if denied else "ok"
            if told != right:
                raise WrongAnswer(f"{path.name}, {topic}: {told}, but {right} was to come")


def measured(paths: list[Route], rounds: int, octets: int) -> list[Sample]:
    # A broker's compiler needs some hundred MB; two of the routes share one.
    for path in [paths[0], *paths]:
        say(f"{path.name}: warming up")
        for way in WAYS:
            kafka.run(path.client, broker.python(), way, path.bootstrap, octets, MESSAGE)
    samples = []
    for round in range(rounds):
        turn = round % len(paths)
        for way in WAYS:
            for path in paths[turn:] + paths[:turn]:
                samples.append(one(path, way, round, octets))
                say(f"round {round + 1}, {samples[-1].show()}")
    return samples


def one(path: Route, way: str, round: int, octets: int) -> Sample:
    pids = path.lab.processes() if path.lab else []
    before = cost.cpu(pids, path.client.group)
    done = kafka.run(path.client, broker.python(), way, path.bootstrap, octets, MESSAGE)
    spent = cost.cpu(pids, path.client.group).since(before)
    mb = done.octets / 1e6
    return Sample(round, way, path.name, mb / done.seconds, spent.processes * 1e3 / mb, spent.lab * 1e3 / mb)


def say(text: str) -> None:
    print(f"\033[1m==>\033[0m {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
