"""Servers: started, waited for, ended."""

import os
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from lab.place import Place


class NotUp(Exception):
    pass


class Daemon:
    """A process that runs until the stack unwinds. What it prints goes to a log that is shown where
    it does not come up."""

    def __init__(self, stack: ExitStack, place: Place, log: Path, *argv: str, more_logs: tuple[Path, ...] = ()) -> None:
        self.logs, self.name = (log, *more_logs), Path(argv[0]).name
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                place.command(*argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        stack.callback(self.stop)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until(self, up, what: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not up():
            if self.process.poll() is not None:
                raise NotUp(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise NotUp(f"{self.name}: {what} did not come within {seconds:.0f} s:\n{self.tail()}")
            time.sleep(0.05)

    def tail(self) -> str:
        there = [log.read_text(errors="replace").splitlines() for log in self.logs if log.exists()]
        return "\n".join(line for lines in there for line in lines[-10:])

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        # Workers that outlived it; the group is gone where there are none.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
