"""What makes the requests: one file a tool."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What a tool saw in one measurement."""

    requests: int
    """Answered as they should be."""
    failed: int
    seconds: float
    p50: float
    """Microseconds, as p99."""
    p99: float
    load_cpu: float = 0
    """Seconds of CPU time of the tool itself, where it says so."""


class LoadFailed(Exception):
    pass
