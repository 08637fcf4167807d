"""h2load: HTTP/2 without TLS, by prior knowledge."""

import re
from pathlib import Path

from lab.commands import output_of
from lab.place import Place
from load import Load, LoadFailed

SUMMARY = re.compile(r"^requests: .*?, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", re.M)
# It prints no percentiles, so it logs each request: start, status, microseconds. The file lies in
# memory, and its cost is the same for all peers.
LOG_DIR = Path("/dev/shm")


def run(client: Place, url: str, connections: int, streams: int, seconds: int) -> Load:
    log = LOG_DIR / f"{client.namespace}-h2load.log"
    argv = ["h2load", "-t", "1", "-c", str(connections), "-m", str(streams), "-D", str(seconds), "--log-file", str(log)]
    try:
        code, out, err = output_of(client.command(*argv, url), seconds + 10)
        summary = SUMMARY.search(out)
        if code != 0 or summary is None:
            raise LoadFailed(f"h2load: exit {code}: {out}{err}")
        times = sorted(answered(log))
    finally:
        log.unlink(missing_ok=True)
    succeeded, failed, errored, timed_out = map(int, summary.groups())
    if not times:
        raise LoadFailed(f"h2load: no request succeeded:\n{out}")
    return Load(succeeded, failed + errored + timed_out, seconds, percentile(times, 50), percentile(times, 99))


def answered(log: Path):
    with log.open() as lines:
        for line in lines:
            _start, status, microseconds = line.split("\t")[:3]
            if status == "200":
                yield int(microseconds)


def percentile(ordered: list[int], percent: int) -> float:
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]
