"""The wires that the agent makes for its endpoints, made by hand for those who have no agent: a veth
pair a workload, a /32 on it, a gateway with a permanent neighbour, a route on the node."""

import json

from lab.place import Place

NODE = "10.99.0.1"
CLIENT = "10.99.0.2"
SERVER = "10.99.0.3"
GATEWAY = "169.254.1.1"


def node_address(node: Place) -> None:
    node.ip("address", "add", f"{NODE}/32", "dev", "lo")
    node.sysctl("net.ipv4.ip_forward", "1")


def connect(node: Place, workload: Place, device: str, address: str) -> None:
    node.ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", workload.namespace)
    node.ip("address", "add", f"{GATEWAY}/32", "dev", device)
    node.ip("link", "set", device, "up")
    workload.ip("address", "add", f"{address}/32", "dev", "eth0")
    workload.ip("link", "set", "eth0", "up")
    node.ip("neighbour", "replace", address, "lladdr", mac(workload, "eth0"), "dev", device, "nud", "permanent")
    workload.ip("neighbour", "replace", GATEWAY, "lladdr", mac(node, device), "dev", "eth0", "nud", "permanent")
    node.ip("route", "add", address, "dev", device, "src", NODE)
    workload.ip("route", "add", GATEWAY, "dev", "eth0", "scope", "link")
    workload.ip("route", "add", "default", "via", GATEWAY, "dev", "eth0", "src", address)


def mac(place: Place, device: str) -> str:
    return json.loads(place.ip("-j", "link", "show", "dev", device))[0]["address"]
