"""The backend, the same for everybody: nginx with a short answer and a large body over HTTP/1.1 and h2c,
and grpc-go's benchmark service."""

from contextlib import ExitStack
from pathlib import Path

import settings
from lab.daemon import Daemon
from lab.place import Place
from lab.probe import listens

# HTTP/1.1 and h2c. The second pair is the one that only layer 4 guards where Tektin is in between.
H1, H2 = 80, 81
L4_H1, L4_H2 = 8080, 8081
GRPC, L4_GRPC = 50051, 50052
# Served, but allowed by no policy.
CLOSED = 82

CONFIGURATION = """
worker_processes {workers};
daemon off;
user root;
error_log stderr crit;
pid {dir}/nginx.pid;
events {{ worker_connections {files}; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{
    {listen}
    http2_max_concurrent_streams 256;
    location / {{ return 200 "{answer}"; }}
    location = {big} {{ alias {dir}/big; }}
  }}
}}
"""


def start(stack: ExitStack, place: Place, dir: Path, wanted: settings.Settings) -> None:
    dir.mkdir()
    # A hole: it costs no disk, and is served from the page cache after the first time.
    with (dir / "big").open("wb") as big:
        big.truncate(wanted.body_mib << 20)
    listen = [f"listen {port} backlog=4096;" for port in (H1, L4_H1, CLOSED)]
    listen += [f"listen {port} http2 backlog=4096;" for port in (H2, L4_H2)]
    text = CONFIGURATION.format(
        workers=wanted.workers, files=wanted.open_files, dir=dir, listen="\n    ".join(listen), big=settings.BIG_PATH, answer="product " * 16
    )
    (dir / "nginx.conf").write_text(text)
    daemon = Daemon(stack, place, dir / "log", "nginx", "-p", str(dir), "-c", str(dir / "nginx.conf"))
    daemon.wait_until(lambda: listens(place, H1), "its port")
    addresses = [f"0.0.0.0:{port}" for port in (GRPC, L4_GRPC)]
    grpc = Daemon(stack, place, dir / "grpc.log", str(wanted.grpc), "serve", *addresses)
    grpc.wait_until(lambda: listens(place, L4_GRPC), "its ports")
