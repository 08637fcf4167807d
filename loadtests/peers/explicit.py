"""A proxy that the client addresses: what Envoy, HAProxy and nginx have in common here."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cost
from lab import probe, wires
from lab.daemon import Daemon
from lab.plain import PlainLab
from peers import Peer


def start(
    stack: ExitStack, lab: PlainLab, name: str, title: str, version: str, h1: int, h2: int, argv: Callable,
    grpc: int | None = None, program: Path | None = None,
) -> Peer:
    """Starts it in the node's namespace. `argv` gives its command line, and gets a directory of its own;
    `program` calls it where it has a port for gRPC."""
    dir = lab.dir / name
    dir.mkdir()
    daemon = Daemon(stack, lab.node, dir / "log", *argv(dir))
    for port in filter(None, (h1, h2, grpc)):
        daemon.wait_until(lambda: probe.listens(lab.node, port), f"port {port}")
    bases = [f"http://{wires.NODE}:{port}" for port in (h1, h2)]

    def check() -> None:
        probe.rule_holds(lab.client, *bases)
        if grpc:
            probe.grpc_rule_holds(lab.client, program, f"{wires.NODE}:{grpc}")

    return Peer(
        name=name,
        title=title,
        client=lab.client,
        host=wires.NODE,
        h1=h1,
        h2=h2,
        grpc=grpc,
        version=version,
        check=check,
        processes=lambda: cost.with_children(daemon.pid),
    )
