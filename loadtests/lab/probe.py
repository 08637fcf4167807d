"""Single requests that show that a path does what it is measured for."""

import subprocess
from pathlib import Path

import settings
from lab.commands import run
from lab.place import Place


class WrongAnswer(Exception):
    pass


def listens(place: Place, port: int) -> bool:
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{place.namespace}", "ss", "-Htln", f"sport = :{port}"],
        capture_output=True, text=True,
    )
    return bool(done.stdout.strip())


def repeated_syns(place: Place) -> int:
    """SYNs that nobody answered in time, since the namespace began. Load generators do not count them
    as failures, but a connection that comes only after a second is one."""
    rows = run("nsenter", f"--net=/run/netns/{place.namespace}", "cat", "/proc/net/netstat").splitlines()
    names, values = (row.split() for row in rows[:2])
    return int(dict(zip(names, values, strict=True))["TCPSynRetrans"])


def status(client: Place, url: str, *options: str) -> str:
    """The HTTP status; 000 where there was no answer."""
    argv = client.command("curl", "-s", "-o", "/dev/null", "-m", "3", "-w", "%{http_code}", *options, url)
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


def expect(client: Place, wanted: str, url: str, *options: str) -> None:
    got = status(client, url, *options)
    if got != wanted:
        raise WrongAnswer(f"{url} {' '.join(options)}: {got}, but {wanted} was to come")


def rule_holds(client: Place, h1: str, h2: str) -> None:
    """The rule allows what it names and nothing else, over HTTP/1.1 and over h2c."""
    for base, version in ((h1, "--http1.1"), (h2, "--http2-prior-knowledge")):
        expect(client, "200", base + settings.PATH, version)
        expect(client, "403", base + settings.DENIED_PATH, version)
        expect(client, "403", base + settings.PATH + "/more", version)
        expect(client, "403", base + settings.PATH, version, "-X", "POST")


def grpc_status(client: Place, program: Path, address: str, method: str) -> str:
    """What a gRPC client is told of a call with an empty message."""
    argv = client.command(str(program), "call", address, method)
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.strip()


def grpc_rule_holds(client: Place, program: Path, address: str) -> None:
    expect_grpc(client, program, address, {"UnaryCall": "OK", settings.GRPC_DENIED: "PermissionDenied",
                                           "/other.Service/UnaryCall": "PermissionDenied"})


def grpc_passes(client: Place, program: Path, address: str) -> None:
    """A method that the server does not have gets there, and its answer back."""
    expect_grpc(client, program, address, {"UnaryCall": "OK", "/other.Service/UnaryCall": "Unimplemented"})


def expect_grpc(client: Place, program: Path, address: str, calls: dict[str, str]) -> None:
    for method, wanted in calls.items():
        path = method if method.startswith("/") else f"/{settings.GRPC_SERVICE}/{method}"
        got = grpc_status(client, program, address, path)
        if got != wanted:
            raise WrongAnswer(f"{address}{path}: {got or 'nothing'}, but {wanted} was to come")


def passes(client: Place, h1: str, h2: str) -> None:
    """Everything passes, as it does where nothing looks at requests."""
    for base, version in ((h1, "--http1.1"), (h2, "--http2-prior-knowledge")):
        expect(client, "200", base + settings.PATH, version)
        expect(client, "200", base + settings.DENIED_PATH, version)
