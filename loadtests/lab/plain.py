"""The lab without Tektin: client, node and server, and the backend on the server."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lab import backend, place, wires
from lab.place import Place
from settings import Settings


@dataclass(frozen=True)
class PlainLab:
    client: Place
    node: Place
    server: Place
    dir: Path


def build(stack: ExitStack, dir: Path, id: str, settings: Settings) -> PlainLab:
    group = place.group(stack, f"{id}-plain")
    client = place.make(stack, f"{id}-client", group, settings.load_cpus)
    node = place.make(stack, f"{id}-node", group, settings.node_cpus)
    server = place.make(stack, f"{id}-server", group, settings.node_cpus)
    wires.node_address(node)
    wires.connect(node, client, "to-client", wires.CLIENT)
    wires.connect(node, server, "to-server", wires.SERVER)
    backend.start(stack, server, dir / "backend", settings)
    return PlainLab(client, node, server, dir)
