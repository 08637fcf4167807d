"""One large body, fetched by curl."""

import json
from dataclasses import dataclass

from lab.commands import output_of
from lab.place import Place
from load import LoadFailed

TIME_LIMIT = 60


@dataclass(frozen=True)
class Fetched:
    mib: float
    seconds: float


def fetch(client: Place, url: str, mib: int) -> Fetched:
    argv = client.command("curl", "-s", "-o", "/dev/null", "-m", str(TIME_LIMIT), "-w", "%{json}", url)
    code, out, _ = output_of(argv, TIME_LIMIT + 10)
    answer = json.loads(out or "{}")
    got = answer.get("size_download", 0)
    if code != 0 or answer.get("http_code") != 200 or got != mib << 20:
        raise LoadFailed(f"curl {url}: exit {code}, status {answer.get('http_code')}, {got} octets")
    return Fetched(mib, answer["time_total"])
