"""Producers and consumers of Kafka: librdkafka, from Python (`kafka_client.py`)."""

import json
from dataclasses import dataclass
from pathlib import Path

from lab.commands import output_of
from lab.place import Place
from load import LoadFailed

TOPIC, DENIED = "bench", "denied"


@dataclass(frozen=True)
class Transfer:
    octets: int
    """Of message values."""
    seconds: float
    cpu: float
    """Seconds of the client."""


def run(client: Place, python: Path, way: str, bootstrap: str, octets: int, message: int) -> Transfer:
    argv = [str(python), str(Path(__file__).with_name("kafka_client.py")), way, bootstrap, TOPIC, str(octets // message), str(message)]
    code, out, err = output_of(client.command(*argv), 90)
    if code != 0:
        raise LoadFailed(f"{way}: exit {code}: {out}{err}")
    return Transfer(**json.loads(out))


def told(client: Place, python: Path, bootstrap: str, topic: str) -> str:
    """What a producer of one message is told."""
    argv = [str(python), str(Path(__file__).with_name("kafka_client.py")), "one", bootstrap, topic, "1", "10"]
    code, out, err = output_of(client.command(*argv), 40)
    return out.strip() if code == 0 else f"exit {code}: {out}{err}"

