"""What all this ran on."""

import os
import platform
import subprocess
from pathlib import Path

from lab.commands import run
from settings import REPOSITORY


def rows() -> list[tuple[str, str]]:
    memory = int(field(Path("/proc/meminfo").read_text(), "MemTotal").split()[0]) / (1 << 20)
    return [
        ("Processor", f"{field(Path('/proc/cpuinfo').read_text(), 'model name')}, {os.cpu_count()} cores, {virtual()}"),
        ("Memory", f"{memory:.0f} GiB"),
        ("Kernel", f"Linux {platform.release()}"),
        ("Tools", f"wrk {first('wrk', '-v').split()[1]}, h2load {first('h2load', '--version').split('/')[-1]}, "
                  f"curl {first('curl', '--version').split()[1]}, grpc-go {grpc_version()}"),
    ]


def grpc_version() -> str:
    lines = (REPOSITORY / "loadtests" / "grpc-peer" / "go.mod").read_text().splitlines()
    return next((line.split()[1] for line in lines if line.strip().startswith("google.golang.org/grpc ")), "unknown")


def field(text: str, name: str) -> str:
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(name)), "unknown")


def virtual() -> str:
    return "virtual" if "hypervisor" in field(Path("/proc/cpuinfo").read_text(), "flags").split() else "bare metal"


def first(*argv: str) -> str:
    """The first line that it prints; wrk says its version with exit code 1."""
    done = subprocess.run(argv, capture_output=True, text=True)
    return (done.stdout or done.stderr).splitlines()[0]


def commit() -> str:
    if not (REPOSITORY / ".git").exists():
        return "unknown"
    return run("git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD").strip()
