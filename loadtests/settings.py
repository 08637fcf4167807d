"""What a run is: how often, how long, on which cores. Read from the command line."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from lab import limits

REPOSITORY = Path(__file__).resolve().parent.parent
# The one request that the rule of every peer allows, and the rule itself (it must match in full).
PATH = "/products/1"
BIG_PATH = "/products/1000000000"
RULE_METHOD = "GET"
RULE_PATH = "/products(/[0-9]+)?"
# What no peer may let pass.
DENIED_PATH = "/admin"
CONNECTIONS = 64
# h2load's connections and streams of each: as many requests in flight as CONNECTIONS.
H2_CONNECTIONS, H2_STREAMS = 16, 4
# gRPC clients hold few connections with many calls on each; as many in flight again.
GRPC_CONNECTIONS, GRPC_CALLS = 4, 16
# What the rule of every peer allows of gRPC, by service and method.
GRPC_SERVICE = "grpc.testing.BenchmarkService"
GRPC_METHODS = ("UnaryCall", "StreamingCall")
# The same as a path, which must match in full, and what no peer may let pass.
GRPC_RULE_PATH = f"/{GRPC_SERVICE.replace('.', '[.]')}/({'|'.join(GRPC_METHODS)})"
GRPC_DENIED = f"/{GRPC_SERVICE}/StreamingFromServer"


@dataclass(frozen=True)
class Settings:
    rounds: int
    seconds: int
    """Of each measurement with wrk and h2load."""
    idle_connections: int
    open_files: int
    """Limit of each process."""
    body_mib: int
    only: tuple[str, ...]
    """Names of peers; empty: all."""
    ways: tuple[str, ...]
    """Of asking, by name; empty: all, and large bodies and memory."""
    results: Path
    load_cpus: str
    """Cores of the load generator, as taskset writes them."""
    node_cpus: str
    """Cores of everything else: backend, peers, agent and proxy."""
    workers: int
    """Worker threads or processes of backend and peers: one for each of `node_cpus`."""
    tektin: Path
    envoy: Path
    grpc: Path
    """The gRPC server and load generator."""


def target_dir() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))


def from_command_line() -> Settings:
    parser = argparse.ArgumentParser(description="Measures Tektin against its peers; see loadtests/README.md.")
    parser.add_argument("--rounds", type=bounded(1, 50), default=5)
    parser.add_argument("--seconds", type=bounded(1, 60), default=6, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="one short round; leaves RESULTS.md alone")
    parser.add_argument("--idle", type=bounded(1, 20_000), default=10_000, help="idle connections")
    parser.add_argument("--body", type=bounded(1, 4096), default=1024, help="MiB of a large body")
    parser.add_argument("--only", default="", help="peers by name, with commas; leaves RESULTS.md alone")
    parser.add_argument("--ways", default="", help="ways of asking (h2c, gRPC unary, …), likewise, without bodies and memory")
    args = parser.parse_args()
    load, node = split_cores(sorted(os.sched_getaffinity(0)))
    whole = not (args.quick or args.only or args.ways)
    open_files = limits.raise_open_files()
    idle = min(args.idle, 1000 if args.quick else limits.connections_through(open_files))
    bench = target_dir() / "bench"
    envoys = sorted(bench.glob("venv/lib/python3*/site-packages/envoy/_bin/envoy"))
    return Settings(
        rounds=1 if args.quick else args.rounds,
        seconds=min(args.seconds, 2) if args.quick else args.seconds,
        idle_connections=idle,
        open_files=open_files,
        body_mib=args.body,
        only=tuple(name for name in args.only.split(",") if name),
        ways=tuple(name for name in args.ways.split(",") if name),
        results=REPOSITORY / "loadtests" / "RESULTS.md" if whole else bench / "results.md",
        load_cpus=",".join(map(str, load)),
        node_cpus=",".join(map(str, node)),
        workers=len(node),
        tektin=Path(os.environ.get("TEKTIN", target_dir() / "release" / "tektin")),
        envoy=Path(os.environ.get("ENVOY", envoys[-1] if envoys else bench / "venv" / "envoy-is-not-installed")),
        grpc=bench / "grpc",
    )


def split_cores(cores: list[int]) -> tuple[list[int], list[int]]:
    """Half for the load, half for what is measured, so that neither takes the other's time. One core
    alone has to serve both."""
    half = len(cores) // 2
    return (cores[:half], cores[half:]) if half else (cores, cores)


def bounded(low: int, high: int):
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not within {low} and {high}")
        return value

    return parse
