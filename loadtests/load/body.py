"""One large body, fetched by curl."""

import json
import subprocess
from dataclasses import dataclass

from lab.place import Place
from load import LoadFailed

TIME_LIMIT = 60


@dataclass(frozen=True)
class Fetched:
    mib: float
    seconds: float


def fetch(client: Place, url: str, mib: int) -> Fetched:
    argv = client.command("curl", "-s", "-o", "/dev/null", "-m", str(TIME_LIMIT), "-w", "%{json}", url)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIME_LIMIT + 10, stdin=subprocess.DEVNULL)
    answer = json.loads(done.stdout or "{}")
    got = answer.get("size_download", 0)
    if done.returncode != 0 or answer.get("http_code") != 200 or got != mib << 20:
        raise LoadFailed(f"curl {url}: exit {done.returncode}, status {answer.get('http_code')}, {got} octets")
    return Fetched(mib, answer["time_total"])
