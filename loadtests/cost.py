"""What the work cost: CPU time of processes and of the whole machine, memory of processes."""

import os
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Cpu:
    """Seconds of CPU time since some start."""

    machine: float
    """All but idle, waiting for disks, and stolen by the hypervisor; all cores together."""
    stolen: float
    processes: float
    lab: float
    """Of all processes of a control group, counted by the scheduler; what else runs on the machine is
    not in it, and neither is what the kernel does in between on nobody's account."""

    def since(self, before: "Cpu") -> "Cpu":
        return Cpu(
            self.machine - before.machine,
            self.stolen - before.stolen,
            self.processes - before.processes,
            self.lab - before.lab,
        )


def cpu(pids: list[int], group: Path | None = None) -> Cpu:
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return Cpu(
        machine=(user + nice + system + irq + softirq) * TICK,
        stolen=steal * TICK,
        processes=sum(process_time(pid) for pid in pids),
        lab=group_time(group) if group else 0,
    )


def process_time(pid: int) -> float:
    # The name is in parentheses and may hold anything; utime and stime are the 12th and 13th after it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def group_time(group: Path) -> float:
    lines = (line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return next(int(value) for name, value in lines if name == "usage_usec") / 1e6


@dataclass(frozen=True)
class Memory:
    """MiB. Pages that several processes share count once in `pss` and several times in `rss`."""

    rss: float
    pss: float


def memory(pids: list[int]) -> Memory:
    rss = pss = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "Rss":
                rss += int(rest.split()[0])
            elif name == "Pss":
                pss += int(rest.split()[0])
    return Memory(rss / 1024, pss / 1024)


def forget_peak(pids: list[int]) -> None:
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_rss(pids: list[int]) -> float:
    """MiB, the most since `forget_peak`; of several processes the sum of each one's most."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1])
    return total / 1024


def with_children(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += with_children(int(child))
    return found
