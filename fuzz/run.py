#!/usr/bin/env python3
"""Runs the fuzz targets one after the other and writes fuzz/RESULTS.md; see fuzz/README.md.

Executions and findings add up in the table from run to run; coverage is the last run's.
"""
import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
TRIPLE = f"{os.uname().machine}-unknown-linux-gnu"
TARGET_DIR = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")).resolve() / "fuzz"
# What a target reads is longer than this at most; 0: libFuzzer finds out by itself.
LONGEST = {"path": 256, "authority": 128, "packet": 256, "antispoof": 160, "chunked": 512, "http1": 1024,
           "http1_forward": 1024, "documents": 2048, "engines": 512, "http_rules": 384, "conntrack": 512, "hpack": 512}


@dataclasses.dataclass
class Row:
    executions: int = 0
    checked: int = 0  # of them, with the address sanitizer
    edges: int = 0
    features: int = 0
    inputs: int = 0
    octets: int = 0
    findings: int = 0


def targets():
    return sorted(path.stem for path in (HERE / "fuzz_targets").glob("*.rs"))


# Rows, the file of results and what is printed are one at a time's.
TURN = threading.Lock()


def build(sanitizer, names):
    # The release profile's link-time optimisation makes the coverage counters no better, only late.
    environment = {**os.environ, "CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}
    command = ["cargo", "+nightly", "fuzz", "build", "--features", "libfuzzer", "--sanitizer", sanitizer]
    command += ["--target-dir", str(TARGET_DIR / sanitizer)] + (names if len(names) == 1 else [])
    subprocess.run(command, cwd=HERE.parent, env=environment, check=True)


def program(name, sanitizer):
    return str(TARGET_DIR / sanitizer / TRIPLE / "release" / name)


def corpus_of(name):
    """The inputs in fuzz/corpus, one a line: ASCII as it is, \\n, \\r, \\t, \\\\, all else as \\xNN."""
    path = HERE / "corpus" / f"{name}.txt"
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return [line.encode().decode("unicode_escape").encode("latin-1") for line in lines]


def folders(name):
    """Where new inputs go, and where those of the repository are."""
    found, unpacked = TARGET_DIR / "found" / name, TARGET_DIR / "corpus" / name
    shutil.rmtree(unpacked, ignore_errors=True)
    for folder in (found, unpacked):
        folder.mkdir(parents=True, exist_ok=True)
    for number, octets in enumerate(corpus_of(name)):
        (unpacked / str(number)).write_bytes(octets)
    return found, [HERE / "seeds" / name, unpacked]


def fuzz(name, sanitizer, seconds, row):
    found, given = folders(name)
    findings = TARGET_DIR / "findings" / name
    findings.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", "-print_final_stats=1", "-timeout=20", "-rss_limit_mb=2048"]
    options += [f"-artifact_prefix={findings}/"] + ([f"-max_len={LONGEST[name]}"] if name in LONGEST else [])
    dictionary = HERE / "dictionaries" / f"{name}.txt"
    options += [f"-dict={dictionary}"] if dictionary.exists() else []
    begun = time.monotonic()
    run = subprocess.run(
        [program(name, sanitizer), *options, str(found), *map(str, given)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
    )
    took = time.monotonic() - begun
    with TURN:
        count(name, sanitizer, run, took, row, findings)


def count(name, sanitizer, run, took, row, findings):
    executed = re.findall(r"stat::number_of_executed_units:\s*(\d+)", run.stderr)
    states = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/", run.stderr)
    executions = int(executed[-1]) if executed else 0
    row.executions += executions
    row.checked += executions if sanitizer == "address" else 0
    if states:
        row.edges, row.features = (int(number) for number in states[-1][:2])
    said = f"{name:<16} {sanitizer:<8} {executions:>12,} runs  {executions / max(took, 1):>9,.0f}/s  {row.edges:>6} edges"
    if run.returncode != 0:
        row.findings += 1
        print(f"{said}  FINDING", flush=True)
        print("\n".join("    " + line for line in run.stderr.splitlines()[-40:]))
        print(f"    inputs: {findings}; a mended one belongs into fuzz/seeds/{name}/", flush=True)
    else:
        print(said, flush=True)


def minimise(name, sanitizer):
    """Replaces the corpus by as few and as small inputs as reach the same edges."""
    found, given = folders(name)
    fresh = TARGET_DIR / "fresh" / name
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    sources = [str(folder) for folder in (*given, found) if any(folder.iterdir())]
    command = [program(name, sanitizer), "-set_cover_merge=1", "-use_counters=0", str(fresh), *sources]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seeds = {path.read_bytes() for path in (HERE / "seeds" / name).iterdir()}
    kept = sorted({path.read_bytes() for path in fresh.iterdir()} - seeds, key=lambda octets: (len(octets), octets))
    lines = [octets.decode("latin-1").encode("unicode_escape").decode() + "\n" for octets in kept]
    (HERE / "corpus" / f"{name}.txt").write_text("".join(lines))


def read_rows():
    rows = {}
    for line in RESULTS.read_text().splitlines() if RESULTS.exists() else []:
        cells = [cell.strip().strip("`").replace(",", "") for cell in line.strip("|").split("|")]
        if len(cells) == 8 and cells[1].isdigit() and cells[0] in targets():
            rows[cells[0]] = Row(*(int(cell) for cell in cells[1:]))
    return rows


def write_rows(rows):
    total = Row(*(sum(values) for values in zip(*(dataclasses.astuple(row) for row in rows.values()))))
    version = subprocess.run(["rustc", "+nightly", "--version"], capture_output=True, text=True).stdout.strip()
    lines = ["# What the fuzz targets have shown", "", f"Written by `make fuzz`. {version}; libFuzzer.", ""]
    lines += ["Executions and findings are those of all runs; edges and features (edges by how often they were",
              "taken) are the last run's; inputs and octets are those that `make test` replays. A finding is open",
              "until it is mended and its input lies in `seeds/`; then its number here goes back to 0.", ""]
    lines += ["| target | executions | with AddressSanitizer | edges | features | inputs | octets | open findings |",
              "|---|--:|--:|--:|--:|--:|--:|--:|"]
    for name, row in [*sorted(rows.items()), ("**all**", total)]:
        shown = f"`{name}`" if name in rows else name
        lines.append(f"| {shown} | " + " | ".join(f"{value:,}" for value in dataclasses.astuple(row)) + " |")
    RESULTS.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", nargs="+", default=[], help="only these")
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time")
    parser.add_argument("--sanitizer", choices=["none", "address"], default="none")
    parser.add_argument("--minimise", action="store_true", help="take what was found into the corpora")
    arguments = parser.parse_args()
    if unknown := set(arguments.target) - set(targets()):
        sys.exit(f"{' '.join(sorted(unknown))} is none of: {' '.join(targets())}")
    names = arguments.target or targets()
    build(arguments.sanitizer, names)
    rows = read_rows()
    before = sum(row.findings for row in rows.values())

    def one(name):
        with TURN:
            row = rows.setdefault(name, Row())
        if arguments.seconds:
            fuzz(name, arguments.sanitizer, arguments.seconds, row)
        if arguments.minimise:
            minimise(name, arguments.sanitizer)
        kept = [path.read_bytes() for path in (HERE / "seeds" / name).iterdir()] + corpus_of(name)
        with TURN:
            row.inputs, row.octets = len(kept), sum(map(len, kept))
            write_rows(rows)

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(one, names))
    print()
    print(RESULTS.read_text())
    if sum(row.findings for row in rows.values()) > before:
        sys.exit("there are findings")


if __name__ == "__main__":
    main()
