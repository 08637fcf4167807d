"""nginx as a proxy, with the rule as a location. It speaks HTTP/1.1 to backends, whatever its client speaks."""

import subprocess
from contextlib import ExitStack

import settings
from lab import backend, wires
from lab.plain import PlainLab
from peers import Peer, explicit

H1, H2 = 15021, 15022

CONFIGURATION = """
worker_processes {workers};
daemon off;
user root;
error_log stderr crit;
pid {dir}/nginx.pid;
events {{ worker_connections {files}; }}
http {{
  access_log off;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  upstream backend {{ server {server}:{h1_up}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {node}:{h1} backlog=4096;
    listen {node}:{h2} http2 backlog=4096;
    location ~ ^{path}$ {{
      limit_except {method} {{ deny all; }}
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_max_temp_file_size 0;
    }}
    location / {{ return 403; }}
  }}
}}
"""


def start(stack: ExitStack, lab: PlainLab, wanted: settings.Settings) -> Peer:
    def argv(dir):
        text = CONFIGURATION.format(
            workers=wanted.workers, files=wanted.open_files, dir=dir, node=wires.NODE, server=wires.SERVER, h1=H1, h2=H2,
            h1_up=backend.H1, method=settings.RULE_METHOD, path=settings.RULE_PATH,
        )
        (dir / "nginx.conf").write_text(text)
        return ["nginx", "-p", str(dir), "-c", str(dir / "nginx.conf")]

    # It says its version on standard error.
    version = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.split("/")[-1].strip()
    return explicit.start(stack, lab, "nginx", "nginx (proxy)", f"nginx {version}", H1, H2, argv)
