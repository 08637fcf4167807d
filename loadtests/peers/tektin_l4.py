"""Tektin, with a layer 4 rule only: packets are judged in the kernel, no proxy sees them."""

from lab import backend, probe
from peers import Peer
from peers.tektin import TektinLab
from settings import Settings


def start(lab: TektinLab, wanted: Settings) -> Peer:
    h1, h2 = (f"http://{lab.address}:{port}" for port in (backend.L4_H1, backend.L4_H2))

    def check() -> None:
        probe.passes(lab.client, h1, h2)
        probe.grpc_passes(lab.client, wanted.grpc, f"{lab.address}:{backend.L4_GRPC}")
        lab.closed_port_is_closed()

    return Peer(
        name="tektin-l4",
        title="Tektin L4",
        client=lab.client,
        host=lab.address,
        h1=backend.L4_H1,
        h2=backend.L4_H2,
        grpc=backend.L4_GRPC,
        version=lab.version(),
        check=check,
        processes=lab.processes,
        records=lab.records,
    )
