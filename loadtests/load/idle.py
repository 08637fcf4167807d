"""Many connections that have been judged once and then say nothing. Run as a program it is the
client: it opens them, asks once on each, says "ready", and holds them until its input ends."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from lab.place import Place
from load import LoadFailed


@contextmanager
def held(client: Place, host: str, port: int, path: str, count: int):
    """While the block runs, `count` connections are open and idle."""
    argv = client.command(sys.executable, "-u", str(Path(__file__)), host, str(port), path, str(count))
    holder = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
    )
    try:
        said = holder.stdout.readline()
        if said != "ready\n":
            raise LoadFailed(f"idle connections to {host}:{port}: {said}{holder.stdout.read()}")
        yield
    finally:
        holder.kill()
        holder.wait()


def hold(host: str, port: int, path: str, count: int) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    connections = []
    for _ in range(count):
        try:
            connection = socket.create_connection((host, port), timeout=10)
            connection.sendall(request)
            answer = connection.recv(4096)
        except OSError as error:
            sys.exit(f"connection {len(connections) + 1}: {error}")
        if not answer.startswith(b"HTTP/1.1 200"):
            sys.exit(f"connection {len(connections) + 1}: {answer[:60]!r}")
        connections.append(connection)
    print("ready")
    sys.stdin.read()


if __name__ == "__main__":
    hold(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
