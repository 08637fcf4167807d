"""How many files a process may have open."""

import resource

ENOUGH = 100_000


def raise_open_files() -> int:
    """As many as there may be, for this process and all that it starts. Without CAP_SYS_RESOURCE
    the limit that is there stays, and the run has to fit into it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = max(hard, ENOUGH)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        return wanted
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard


def connections_through(open_files: int) -> int:
    """So many idle connections a proxy can hold: three fifths of its files are for clients where Tektin
    has too few for a second socket each, and its threads never have quite the same number of them."""
    return (open_files - 400) * 57 // 100
