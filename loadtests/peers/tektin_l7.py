"""Tektin, with the HTTP rule: every request goes through its proxy."""

from lab import backend, probe
from peers import Peer
from peers.tektin import TektinLab
from settings import Settings


def start(lab: TektinLab, wanted: Settings) -> Peer:
    h1, h2 = (f"http://{lab.address}:{port}" for port in (backend.H1, backend.H2))

    def check() -> None:
        probe.rule_holds(lab.client, h1, h2)
        probe.grpc_rule_holds(lab.client, wanted.grpc, f"{lab.address}:{backend.GRPC}")
        lab.closed_port_is_closed()

    return Peer(
        name="tektin-l7",
        title="Tektin L7",
        client=lab.client,
        host=lab.address,
        h1=backend.H1,
        h2=backend.H2,
        grpc=backend.GRPC,
        version=lab.version(),
        check=check,
        processes=lab.processes,
        records=lab.records,
    )
