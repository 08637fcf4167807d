"""Envoy, with the rules in its RBAC filter; h2c on both sides of its second and third listener."""

import json
import re
from contextlib import ExitStack

import settings
from lab import backend, wires
from lab.commands import run
from lab.plain import PlainLab
from peers import Peer, explicit

H1, H2, GRPC = 15001, 15002, 15003
EXTENSIONS = "type.googleapis.com/envoy.extensions"
UNLIMITED = 1_000_000


def start(stack: ExitStack, lab: PlainLab, wanted: settings.Settings) -> Peer:
    def argv(dir):
        path = dir / "envoy.json"
        path.write_text(json.dumps(configuration(), indent=1))
        return [str(wanted.envoy), "-c", str(path), "--concurrency", str(wanted.workers),
                "--disable-hot-restart", "--log-level", "error"]

    version = re.search(r"/(\d+\.\d+\.\d+)/", run(str(wanted.envoy), "--version"))
    return explicit.start(stack, lab, "envoy", "Envoy", f"Envoy {version.group(1)}", H1, H2, argv,
                          GRPC, wanted.grpc)


def configuration() -> dict:
    return {
        "static_resources": {
            "listeners": [
                listener("h1", H1, "HTTP1", rbac(settings.RULE_METHOD, settings.RULE_PATH)),
                listener("h2", H2, "HTTP2", rbac(settings.RULE_METHOD, settings.RULE_PATH)),
                listener("grpc", GRPC, "HTTP2", rbac("POST", settings.GRPC_RULE_PATH)),
            ],
            "clusters": [
                cluster("h1", backend.H1, {"http_protocol_options": {}}),
                cluster("h2", backend.H2, {"http2_protocol_options": {}}),
                cluster("grpc", backend.GRPC, {"http2_protocol_options": {}}),
            ],
        }
    }


def socket_address(address: str, port: int) -> dict:
    return {"socket_address": {"address": address, "port_value": port}}


def listener(name: str, port: int, codec: str, rule: dict) -> dict:
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": codec,
        "generate_request_id": False,
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": name}}]}
            ]
        },
        "http_filters": [
            {"name": "rbac", "typed_config": rule},
            {"name": "router", "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"}},
        ],
    }
    # The router's time limit of 15 s holds for whole answers; a large body may take longer.
    manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["timeout"] = "0s"
    return {
        "name": name,
        "address": socket_address(wires.NODE, port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def rbac(method: str, path: str) -> dict:
    permission = {
        "and_rules": {
            "rules": [
                {"header": {"name": ":method", "string_match": {"exact": method}}},
                {"url_path": {"path": {"safe_regex": {"regex": path}}}},
            ]
        }
    }
    return {
        "@type": f"{EXTENSIONS}.filters.http.rbac.v3.RBAC",
        "rules": {
            "action": "ALLOW",
            "policies": {"products": {"permissions": [permission], "principals": [{"any": True}]}},
        },
    }


def cluster(name: str, port: int, protocol: dict) -> dict:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": UNLIMITED, "max_pending_requests": UNLIMITED, "max_requests": UNLIMITED}
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": protocol,
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": socket_address(wires.SERVER, port)}}]}
            ],
        },
    }
