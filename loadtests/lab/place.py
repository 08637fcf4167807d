"""Where a process runs: network namespace, control group, cores."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from lab.commands import ip, run


@dataclass(frozen=True)
class Place:
    namespace: str
    group: Path | None
    """Directory of its control group (version 2), where there is such a hierarchy."""
    cpus: str

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` here. Every step is an exec, so the process id that one
        starts is the program's; and it ends with the bench, even where that is killed with -9."""
        line = ["setpriv", "--pdeathsig", "KILL"]
        if self.group:
            line += ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.group / "cgroup.procs")]
        return [*line, "taskset", "-c", self.cpus, "nsenter", f"--net=/run/netns/{self.namespace}", *argv]

    def on(self, cpus: str) -> "Place":
        return replace(self, cpus=cpus)

    def ip(self, *argv: str) -> str:
        return ip("-n", self.namespace, *argv)

    def sysctl(self, name: str, value: str) -> None:
        run("nsenter", f"--net=/run/netns/{self.namespace}", "sysctl", "-qw", f"{name}={value}")


def make(stack: ExitStack, name: str, group: Path | None, cpus: str) -> Place:
    """A new namespace, removed with all that runs in it when the stack unwinds."""
    stack.callback(remove, name)
    ip("netns", "add", name)
    place = Place(name, group, cpus)
    place.ip("link", "set", "lo", "up")
    # A connection for each request must not run out of ports; both ends of every lab are set alike.
    place.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
    place.sysctl("net.ipv4.tcp_tw_reuse", "1")
    return place


def remove(name: str) -> None:
    if not Path("/run/netns", name).exists():
        return
    for pid in ip("netns", "pids", name).split():
        run("sh", "-c", f"kill -9 {pid} 2>/dev/null || true")
    ip("netns", "del", name)


def group(stack: ExitStack, name: str) -> Path | None:
    """A control group of its own for each lab: what Tektin attaches to one taxes nobody else."""
    root = group_root()
    if root is None:
        return None
    path = root / name
    stack.callback(remove_group, path)
    path.mkdir()
    return path


def group_root() -> Path | None:
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)


def remove_group(path: Path) -> None:
    if not path.exists():
        return
    kill = path / "cgroup.kill"
    if kill.exists():
        kill.write_text("1")
    # The kernel lets go of it when the last of its processes is gone.
    run("sh", "-c", f"for _ in $(seq 100); do rmdir {path} 2>/dev/null && exit 0; sleep 0.05; done; exit 1")
