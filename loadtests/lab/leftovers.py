"""What a run left behind that was killed with -9. All that a run makes carries its process id in its
name, so another run that is still going on is left in peace."""

import shutil
import tempfile
from pathlib import Path

from lab import place

PREFIX = "tek-bench-"
# Where pinned programs and maps of Tektin are.
BPF = Path("/sys/fs/bpf")


def sweep() -> None:
    for namespace in orphans(Path("/run/netns")):
        place.remove(namespace.name)
    for pins in orphans(BPF):
        shutil.rmtree(pins)
    root = place.group_root()
    for group in orphans(root) if root else []:
        place.remove_group(group)
    for dir in [*orphans(Path(tempfile.gettempdir())), *orphans(Path("/dev/shm"))]:
        shutil.rmtree(dir) if dir.is_dir() else dir.unlink()


def orphans(dir: Path) -> list[Path]:
    found = []
    for entry in dir.glob(f"{PREFIX}*"):
        owner = entry.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            found.append(entry)
    return found
