"""Short commands that must succeed."""

import subprocess


class CommandFailed(Exception):
    pass


def run(*argv: str, timeout: float = 60) -> str:
    """Its standard output; what it said where it failed is in the error."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def output_of(argv: list[str], seconds: float) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error; no exit code where it had to be ended."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return None, "", f"no end after {seconds:.0f} s"
    return done.returncode, done.stdout, done.stderr


def ip(*argv: str) -> str:
    return run("ip", *argv)
