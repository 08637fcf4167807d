"""The lab with Tektin: an agent with its proxy on the node, client and server as its endpoints. One
pair of the backend's ports has the HTTP rule (`tektin_l7`), the other only a layer 4 rule (`tektin_l4`)."""

import json
import os
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import settings
from lab import backend, place, probe
from lab.commands import run
from lab.daemon import Daemon
from lab.place import Place
from peers import Records

POOL4, POOL6 = "10.98.0.0/24", "fd00:98::/112"

POLICY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "bench"},
    "spec": {
        "endpointSelector": {"matchLabels": {"app": "server"}},
        "ingress": [
            {
                "fromEndpoints": [{"matchLabels": {"app": "client"}}],
                "toPorts": [
                    {
                        "ports": [{"port": str(port), "protocol": "TCP"} for port in (backend.H1, backend.H2)],
                        "rules": {"http": [{"method": settings.RULE_METHOD, "path": settings.RULE_PATH}]},
                    },
                    {
                        "ports": [{"port": str(backend.GRPC), "protocol": "TCP"}],
                        "rules": {"grpc": [{"service": settings.GRPC_SERVICE, "method": method} for method in settings.GRPC_METHODS]},
                    },
                    {"ports": [{"port": str(port), "protocol": "TCP"}
                               for port in (backend.L4_H1, backend.L4_H2, backend.L4_GRPC)]},
                ],
            }
        ],
    },
}


@dataclass(frozen=True)
class TektinLab:
    client: Place
    address: str
    """The server's."""
    tektin: Path
    socket: Path
    agent: Daemon
    node: Place
    group: Path | None

    def ask(self, *argv: str) -> dict:
        return json.loads(run(str(self.tektin), "--socket", str(self.socket), "--output", "json", *argv))

    def version(self) -> str:
        return run(str(self.tektin), "--version").strip().replace("tektin", "Tektin")

    def processes(self) -> list[int]:
        """Agent and proxy."""
        return [self.agent.pid, self.ask("status")["proxy"]["pid"]]

    def records(self) -> Records:
        """What was recorded, once the count stands still."""
        before, flows = -1, {}
        for _ in range(40):
            flows = self.ask("status")["flows"]
            if flows["seen"] == before:
                break
            before = flows["seen"]
            time.sleep(0.25)
        return Records(flows["seen"], flows["lost_kernel"] + flows["lost_proxy"])

    def closed_port_is_closed(self) -> None:
        """The policy denies what it does not name; else its price would be measured without it."""
        probe.expect(self.client, "000", f"http://{self.address}:{backend.CLOSED}/", "-m", "1")


def build(stack: ExitStack, dir: Path, id: str, wanted: settings.Settings, fill=lambda policies: None) -> TektinLab:
    """`fill` may put files into the watched directory before the agent starts."""
    group = place.group(stack, f"{id}-tektin")
    client = place.make(stack, f"{id}-tclient", group, wanted.load_cpus)
    node = place.make(stack, f"{id}-tnode", group, wanted.node_cpus)
    server = place.make(stack, f"{id}-tserver", group, wanted.node_cpus)
    for name in ("policies", "run", "tektin-state"):
        (dir / name).mkdir()
    fill(dir / "policies")
    places = [
        "--state-dir", str(dir / "tektin-state"), "--run-dir", str(dir / "run"),
        "--pin-dir", f"/sys/fs/bpf/{id}", "--policy-dir", str(dir / "policies"),
    ]
    # Stops after the agent did: the stack unwinds from its end.
    stack.callback(clean_up, wanted.tektin, node, places)
    argv = [str(wanted.tektin), "agent", *places, "--pool4", POOL4, "--pool6", POOL6]
    if group:
        argv += ["--cgroup-root", str(group)]
    agent = Daemon(stack, node, dir / "agent.log", *argv, more_logs=(dir / "run" / "proxy.log",))
    lab = TektinLab(client, "", wanted.tektin, dir / "run" / "agent.sock", agent, node, group)
    agent.wait_until(lambda: proxy_is_up(lab), "its proxy", seconds=120)
    for name, where in (("client", client), ("server", server)):
        lab.ask("endpoint", "add", name, "--netns", where.namespace, "--label", f"app={name}")
    policy = dir / "policy.json"
    policy.write_text(json.dumps(POLICY))
    lab.ask("policy", "apply", str(policy))
    backend.start(stack, server, dir / "tektin-backend", wanted)
    address = lab.ask("endpoint", "get", "server")["ipv4"]
    return replace(lab, address=address)


def proxy_is_up(lab: TektinLab) -> bool:
    done = subprocess.run(
        [str(lab.tektin), "--socket", str(lab.socket), "--output", "json", "status"], capture_output=True, text=True
    )
    return done.returncode == 0 and json.loads(done.stdout)["proxy"]["connected"]


def clean_up(tektin: Path, node: Place, places: list[str]) -> None:
    """Programs and maps are pinned: they would outlive the namespaces."""
    without_policies = places[: places.index("--policy-dir")]
    run("nsenter", f"--net=/run/netns/{node.namespace}", str(tektin), "cleanup", *without_policies)
    pins = Path(places[places.index("--pin-dir") + 1])
    if pins.is_dir() and not any(pins.iterdir()):
        os.rmdir(pins)
