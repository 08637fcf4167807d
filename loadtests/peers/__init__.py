"""What stands between client and backend: one file each."""

from collections.abc import Callable
from dataclasses import dataclass

from lab.place import Place


@dataclass(frozen=True)
class Peer:
    name: str
    title: str
    client: Place
    """Where the load comes from."""
    host: str
    """What the client talks to, at the ports `h1` (HTTP/1.1), `h2` (h2c) and `grpc`."""
    h1: int
    h2: int
    grpc: int | None
    """None: it is not asked for gRPC."""
    version: str
    check: Callable[[], None]
    """Raises unless the path does what it is measured for."""
    processes: Callable[[], list[int]] = list
    """What stands in between, without client and backend."""
    records: Callable[[], "Records"] | None = None

    def url(self, path: str, *, h2: bool = False) -> str:
        return f"http://{self.host}:{self.h2 if h2 else self.h1}{path}"


@dataclass(frozen=True)
class Records:
    """Flow records since the start."""

    seen: int
    lost: int
