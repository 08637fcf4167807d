#!/usr/bin/env python3
"""`make bench-scale`: what many rules and identities cost, and how soon a change of a policy file holds."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path

sys.dont_write_bytecode = True

import machine
import settings
from lab import leftovers, place
from lab.commands import CommandFailed, run
from lab.daemon import NotUp
from peers import tektin
from report import scale as report

SIZES = [(100, 500), (1_000, 5_000), (10_000, 50_000)]
RULES_A_FILE, PREFIXES_A_RULE, ENDPOINTS = 10, 5, 20
FILES_OF_NEW = 2
ENGINE_REPETITIONS = 50
PORT = 7777
SYNS = Path(__file__).with_name("lab") / "syns.py"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few changes; leaves RESULTS.md alone")
    parser.add_argument("--changes", type=int, default=200, help="of each kind")
    parser.add_argument("--only", choices=("engine", "agent", "latency"), help="leaves RESULTS.md alone; latency: from a policy file to its enforcement, at the smallest size")
    args = parser.parse_args()
    sys.argv = sys.argv[:1]
    wanted = settings.from_command_line()
    changes = 20 if args.quick else args.changes
    whole = not args.quick and not args.only
    results = wanted.results if whole else settings.target_dir() / "bench" / "scale.md"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    leftovers.sweep()
    try:
        engine = engine_rows() if args.only in (None, "engine") else []
        agent, latency = [], []
        for rules, identities in {"engine": [], "latency": SIZES[:1]}.get(args.only, SIZES):
            few = (rules, identities) == SIZES[1]
            row, measured = with_agent(wanted, rules, identities, 0 if few else changes)
            agent.append(row)
            latency += measured
    except (CommandFailed, NotUp) as failure:
        print(f"scale: {failure}", file=sys.stderr)
        return 1
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    facts = "".join(f"- {name}: {fact}\n" for name, fact in [("Date", date), *machine.rows()[:3], ("Source at", machine.commit())])
    part = report.section(facts, engine, agent, latency, ENGINE_REPETITIONS)
    report.replace(results, part)
    print(f"\n{part}\nwritten to {results}")
    return 0


def engine_rows() -> list[dict]:
    say("engine: full compile, one rule, one identity, one endpoint")
    return json.loads(run(str(settings.target_dir() / "release" / "examples" / "scale"), timeout=600))


def with_agent(wanted: settings.Settings, rules: int, identities: int, changes: int) -> tuple[dict, list[dict]]:
    with ExitStack() as stack:
        id = f"{leftovers.PREFIX}{os.getpid()}"
        dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{id}-")))
        say(f"agent: {rules:,} rules, {identities:,} identities")
        lab = tektin.build(stack, dir, id, wanted, lambda policies: fill(policies, rules))
        probe = [place.make(stack, f"{id}-{name}", lab.group, wanted.node_cpus) for name in ("probe", "target")]
        for name, where in zip(("probe", "target"), probe, strict=True):
            lab.ask("endpoint", "add", name, "--netns", where.namespace, "--label", f"app={name}")
        for number in range(ENDPOINTS):
            where = place.make(stack, f"{id}-app{number}", lab.group, wanted.node_cpus)
            lab.ask("endpoint", "add", f"app{number}", "--netns", where.namespace, "--label", f"app=app{number}")
        policies = dir / "policies"
        row = agent_row(lab, dir, policies, rules, stack, id, wanted)
        say(f"  {row}")
        latency = []
        if changes:
            for load in ("idle", "load"):
                with http_load(lab, wanted) if load == "load" else nothing():
                    for kind, series in series_of(policies, dir).items():
                        times = measured(lab, probe, series, changes)
                        latency.append(summary(kind, rules, load, times))
                        say(f"  {latency[-1]}")
        return row, latency


def document(name: str, app: str, ingress: list[dict]) -> str:
    return json.dumps({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": name, "namespace": "default"},
        "spec": {"endpointSelector": {"matchLabels": {"app": app}}, "ingress": ingress},
    })


def rule(number: int) -> dict:
    first = number * PREFIXES_A_RULE
    nets = [f"{20 + n // 65_536}.{n // 256 % 256}.{n % 256}.0/24" for n in range(first, first + PREFIXES_A_RULE)]
    return {"fromCIDR": nets, "toPorts": [{"ports": [{"port": str(1 + number % 60_000), "protocol": "TCP"}]}]}


def many(file: int, count: int = RULES_A_FILE, app: str | None = None) -> str:
    rules = [rule(file * RULES_A_FILE + number) for number in range(count)]
    return document(f"many-{file}", app or f"app{file % ENDPOINTS}", rules)


def fill(policies: Path, rules: int) -> None:
    files = rules // RULES_A_FILE
    for file in range(files):
        # The last ones are the endpoint's that comes later: as many at every size.
        app = "new" if file >= files - FILES_OF_NEW else None
        (policies / f"many-{file}.json").write_text(many(file, app=app))


def agent_row(lab, dir: Path, policies: Path, rules: int, stack: ExitStack, id: str, wanted) -> dict:
    log = dir / "agent.log"
    start = re.search(r'"?policy in force"?.*took_ms=(\d+)', plain(log))
    # One rule more in a file, and one less.
    for turn in range(20):
        replace_file(policies, dir, "many-0.json", many(0, RULES_A_FILE - turn % 2))
        time.sleep(0.05)
    where = place.make(stack, f"{id}-new", lab.group, wanted.node_cpus)
    for turn in range(5):
        lab.ask("endpoint", "add", "new", "--netns", where.namespace, "--label", "app=new", "--label", f"turn={turn}")
        run(str(lab.tektin), "--socket", str(lab.socket), "endpoint", "delete", "new")
    text = plain(log)
    changed = [int(us) for us in re.findall(r"policy files in force.*total_us=(\d+)", text)]
    added = [int(us) for us in re.findall(r"endpoint=default/new.*total_us=(\d+)", text)]
    status = lab.ask("status")
    maps = {fill["name"]: fill["entries"] for fill in status["maps"]}
    return {
        "rules": rules, "identities": status["identities"], "endpoints": status["endpoints"],
        "start": int(start.group(1)) / 1000 if start else float("nan"),
        "agent_mb": rss(lab.agent.pid), "proxy_mb": rss(status["proxy"]["pid"]), "maps": maps,
        "rule": median(changed) / 1000, "endpoint": median(added) / 1000,
    }


def plain(log: Path) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))


def replace_file(policies: Path, dir: Path, name: str, text: str) -> None:
    (dir / "next").write_text(text)
    os.rename(dir / "next", policies / name)


def rss(pid: int) -> float:
    return int(machine.field(Path(f"/proc/{pid}/status").read_text(), "VmRSS").split()[0]) / 1024


def series_of(policies: Path, dir: Path) -> dict[str, list]:
    """Kinds of change: what to do before each, the change itself, and the verdict that it leads to."""
    def allows(port: int) -> str:
        return document("probe", "target", [{
            "fromEndpoints": [{"matchLabels": {"app": "probe"}}],
            "toPorts": [{"ports": [{"port": str(port), "protocol": "TCP"}]}],
        }])

    file = policies / "probe.json"
    ready = {"here": allows(PORT), "elsewhere": allows(PORT + 1)}

    def into(name: str, verdict: str) -> tuple:
        return (dir / f"ready-{name}", ready[name], f"RENAME {verdict} {dir}/ready-{name} {file}", verdict)

    gone = (None, None, f"REMOVE PASS {file}", "PASS")
    return {
        "change of a port": [into("elsewhere", "DROP"), into("here", "PASS")],
        "first policy added": [into("elsewhere", "DROP"), gone],
        "last policy removed": [into("elsewhere", "DROP"), gone],
    }


# Which steps of a series count.
COUNTED = {"change of a port": (0, 1), "first policy added": (0,), "last policy removed": (1,)}


def measured(lab, probe, series: list, changes: int) -> list[float]:
    addresses = [lab.ask("endpoint", "get", name)["ipv4"] for name in ("probe", "target")]
    argv = [sys.executable, "-B", str(SYNS), probe[0].namespace, probe[1].namespace, *addresses, str(PORT)]
    prober = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    times = []
    try:
        while len(times) < changes:
            for path, text, line, _ in series:
                if path:
                    path.write_text(text)
                prober.stdin.write(line + "\n")
                prober.stdin.flush()
                answer = prober.stdout.readline()
                if not answer:
                    raise CommandFailed("the prober ended")
                times.append(float(answer))
    finally:
        prober.stdin.close()
        prober.kill()
        prober.wait()
        (Path(series[0][2].split()[3])).unlink(missing_ok=True)
        time.sleep(0.1)
    return times


def summary(kind: str, rules: int, load: str, times: list[float]) -> dict:
    counted = sorted(time for number, time in enumerate(times) if number % 2 in COUNTED[kind])
    return {"change": kind, "rules": rules, "load": load, "changes": len(counted), "p50": median(counted),
            "p99": counted[min(len(counted) - 1, int(len(counted) * 0.99))], "most": counted[-1]}


def median(values: list) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else float("nan")


@contextmanager
def nothing():
    yield


@contextmanager
def http_load(lab, wanted):
    url = f"http://{lab.address}:{tektin.backend.H1}{settings.PATH}"
    load = subprocess.Popen(
        lab.client.command("wrk", "-t1", "-c", str(settings.CONNECTIONS), "-d", "600s", url),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(0.5)
        yield
    finally:
        load.kill()
        load.wait()


def say(text: str) -> None:
    print(f"\033[1m==>\033[0m {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
