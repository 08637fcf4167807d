"""gRPC without TLS: calls of grpc-go's benchmark service by grpc-go's client (`grpc-peer/main.go`)."""

from pathlib import Path

from lab.commands import output_of
from lab.place import Place
from load import Load, LoadFailed


def run(client: Place, program: Path, host: str, port: int, way: str, connections: int, calls: int, seconds: int) -> Load:
    argv = [str(program), "load", f"{host}:{port}", "-way", way,
            "-connections", str(connections), "-calls", str(calls), "-seconds", str(seconds)]
    code, out, err = output_of(client.command(*argv), seconds + 15)
    line = next((line for line in out.splitlines() if line.startswith("bench ")), None)
    if code != 0 or line is None:
        raise LoadFailed(f"grpc: exit {code}: {out}{err}")
    answered, failed, took, p50, p99, cpu = map(float, line.split()[1:])
    return Load(int(answered), int(failed), took, p50, p99, load_cpu=cpu)
