"""Nothing: the node only forwards."""

from lab import backend, probe, wires
from lab.commands import run
from lab.plain import PlainLab
from peers import Peer


def start(lab: PlainLab) -> Peer:
    h1, h2 = (f"http://{wires.SERVER}:{port}" for port in (backend.H1, backend.H2))
    return Peer(
        name="direct",
        title="nothing",
        client=lab.client,
        host=wires.SERVER,
        h1=backend.H1,
        h2=backend.H2,
        version=f"Linux {run('uname', '-r').strip()}",
        check=lambda: probe.passes(lab.client, h1, h2),
    )
