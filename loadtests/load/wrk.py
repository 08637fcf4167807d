"""wrk: HTTP/1.1, kept-alive connections or one for each request."""

from pathlib import Path

from lab.commands import output_of
from lab.place import Place
from load import Load, LoadFailed

SCRIPT = Path(__file__).with_name("wrk.lua")


def run(client: Place, url: str, connections: int, seconds: int, *, connection_each: bool) -> Load:
    threads = str(len(client.cpus.split(",")))
    argv = ["wrk", "-t", threads, "-c", str(connections), "-d", f"{seconds}s", "--timeout", "2s", "-s", str(SCRIPT)]
    if connection_each:
        argv += ["-H", "Connection: close"]
    code, out, err = output_of(client.command(*argv, url), seconds + 10)
    line = next((line for line in out.splitlines() if line.startswith("bench ")), None)
    if code != 0 or line is None:
        raise LoadFailed(f"wrk: exit {code}: {out}{err}")
    requests, microseconds, p50, p99, *errors = map(int, line.split()[1:])
    # Answers with a wrong status are among its requests; the other errors are not.
    wrong_status = errors[-1]
    return Load(requests - wrong_status, sum(errors), microseconds / 1e6, p50, p99)
