"""HAProxy, with the rules as a deny; h2c on both sides of its second and third front end."""

from contextlib import ExitStack

import settings
from lab import backend, limits, wires
from lab.commands import run
from lab.plain import PlainLab
from peers import Peer, explicit

H1, H2, GRPC = 15011, 15012, 15013

CONFIGURATION = """
global
  nbthread {workers}
  maxconn {connections}
  # It would ask for two files a connection.
  no strict-limits
  maxpipes 64
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
  http-reuse always
  option splice-auto
frontend h1
  bind {node}:{h1} backlog 4096
  http-request deny unless {{ method {method} }} {{ path_reg ^{path}$ }}
  default_backend h1
backend h1
  server nginx {server}:{h1_up}
frontend h2
  bind {node}:{h2} proto h2 backlog 4096
  http-request deny unless {{ method {method} }} {{ path_reg ^{path}$ }}
  default_backend h2
backend h2
  server nginx {server}:{h2_up} proto h2
frontend grpc
  bind {node}:{grpc} proto h2 backlog 4096
  http-request deny unless {{ method POST }} {{ path_reg ^{grpc_path}$ }}
  default_backend grpc
backend grpc
  server grpc {server}:{grpc_up} proto h2
"""


def start(stack: ExitStack, lab: PlainLab, wanted: settings.Settings) -> Peer:
    def argv(dir):
        text = CONFIGURATION.format(
            workers=wanted.workers, connections=limits.connections_through(wanted.open_files), node=wires.NODE, server=wires.SERVER, h1=H1, h2=H2,
            h1_up=backend.H1, h2_up=backend.H2, method=settings.RULE_METHOD, path=settings.RULE_PATH,
            grpc=GRPC, grpc_up=backend.GRPC, grpc_path=settings.GRPC_RULE_PATH,
        )
        (dir / "haproxy.cfg").write_text(text)
        return ["haproxy", "-db", "-f", str(dir / "haproxy.cfg")]

    version = run("haproxy", "-v").split()[2]
    return explicit.start(stack, lab, "haproxy", "HAProxy", f"HAProxy {version}", H1, H2, argv,
                          GRPC, wanted.grpc)
