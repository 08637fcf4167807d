"""Nothing: the node only forwards."""

from lab import backend, probe, wires
from lab.commands import run
from lab.plain import PlainLab
from peers import Peer
from settings import Settings


def start(lab: PlainLab, wanted: Settings) -> Peer:
    h1, h2 = (f"http://{wires.SERVER}:{port}" for port in (backend.H1, backend.H2))

    def check() -> None:
        probe.passes(lab.client, h1, h2)
        probe.grpc_passes(lab.client, wanted.grpc, f"{wires.SERVER}:{backend.GRPC}")

    return Peer(
        name="direct",
        title="nothing",
        client=lab.client,
        host=wires.SERVER,
        h1=backend.H1,
        h2=backend.H2,
        grpc=backend.GRPC,
        version=f"Linux {run('uname', '-r').strip()}",
        check=check,
    )
