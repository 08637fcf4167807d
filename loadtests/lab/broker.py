"""An Apache Kafka broker, as in the tests (`testdata/kafka`); its log is in memory."""

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import settings
from lab.commands import run
from lab.daemon import Daemon
from lab.place import Place
from lab.probe import listens

# The one that a policy with Kafka rules guards where Tektin is in between, the one that only layer 4 guards.
JUDGED, L4 = 9092, 9093
CONTROLLER = 9095
TEMPLATE = settings.REPOSITORY / "testdata" / "kafka" / "server.properties"


def folder() -> Path:
    return settings.target_dir() / "kafka"


def java(dir: Path, heap: str) -> list[str]:
    # Java asks for the name of every address; without a resolver it would wait for one.
    (dir / "hosts").write_text("127.0.0.1 localhost\n")
    return ["java", f"-Xmx{heap}", f"-Xms{heap}", f"-Djdk.net.hosts.file={dir / 'hosts'}", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "-cp", f"{folder()}/lib/*"]


def start(stack: ExitStack, place: Place, dir: Path, memory: Path, address: str) -> Daemon:
    """Without SASL: everybody may do everything as far as the broker is concerned. `memory` is a directory
    on a file system that no disk stands behind."""
    dir.mkdir()
    text = TEMPLATE.read_text()
    for name, value in (("admin", f"{address}:{L4}"), ("direct", "127.0.0.1:9096"), ("via", f"{address}:{JUDGED}"),
                        ("advertised", f"{address}:{JUDGED}"), ("controller", str(CONTROLLER)), ("data", str(memory))):
        text = text.replace(f"@{name}@", value)
    text = text.replace("VIA:SASL_PLAINTEXT", "VIA:PLAINTEXT")
    config = dir / "server.properties"
    config.write_text(text)
    run(*java(dir, "128m"), "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAA", "-c", str(config))
    daemon = Daemon(stack, place, dir / "log", *java(dir, "768m"), "kafka.Kafka", str(config))
    daemon.wait_until(lambda: listens(place, JUDGED) and listens(place, L4), "its ports", seconds=60)
    for topic in ("bench", "denied"):
        create(place, dir, f"{address}:{L4}", topic)
    return daemon


def create(place: Place, dir: Path, bootstrap: str, topic: str) -> None:
    """Segments are small and go soon, so that a long run does not fill the memory."""
    argv = [*java(dir, "64m"), "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", bootstrap, "--create",
            "--topic", topic, "--partitions", "1", "--config", "segment.bytes=67108864",
            "--config", f"retention.bytes={1 << 30}", "--config", "max.message.bytes=2000000"]
    done = subprocess.run(place.command(*argv), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if done.returncode != 0 and "already exists" not in done.stdout + done.stderr:
        raise RuntimeError(f"topic {topic}: {done.stdout}{done.stderr}")


def is_there() -> str | None:
    """What is missing, if something is."""
    missing = [path for path in (folder() / "lib", python()) if not path.exists()]
    return f"{missing[0]} is not there: run './bootstrap.sh bench'" if missing else None


def python() -> Path:
    return folder() / "venv" / "bin" / "python"


def memory_dir(stack: ExitStack, id: str, name: str) -> Path:
    path = Path("/dev/shm") / f"{id}-{name}"
    stack.callback(lambda: run("rm", "-rf", str(path)))
    os.mkdir(path)
    return path / "data"
