"""A proxy that the client addresses: what Envoy, HAProxy and nginx have in common here."""

from collections.abc import Callable
from contextlib import ExitStack

import cost
from lab import probe, wires
from lab.daemon import Daemon
from lab.plain import PlainLab
from peers import Peer


def start(
    stack: ExitStack, lab: PlainLab, name: str, title: str, version: str, h1: int, h2: int, argv: Callable
) -> Peer:
    """Starts it in the node's namespace. `argv` gives its command line, and gets a directory of its own."""
    dir = lab.dir / name
    dir.mkdir()
    daemon = Daemon(stack, lab.node, dir / "log", *argv(dir))
    for port in (h1, h2):
        daemon.wait_until(lambda: probe.listens(lab.node, port), f"port {port}")
    bases = [f"http://{wires.NODE}:{port}" for port in (h1, h2)]
    return Peer(
        name=name,
        title=title,
        client=lab.client,
        host=wires.NODE,
        h1=h1,
        h2=h2,
        version=version,
        check=lambda: probe.rule_holds(lab.client, *bases),
        processes=lambda: cost.with_children(daemon.pid),
    )
