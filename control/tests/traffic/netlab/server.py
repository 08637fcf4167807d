"""Servers for the traffic tests, all in one process: server.py KIND:PORT[@ADDRESS]...

http  HTTP/1.1 with keep-alive. Answers with a JSON description of the request as it arrived (client
      address, method, path, headers, body length and SHA-256). /big/N answers with N bytes,
      /late/… a quarter of a second after the request's last byte.
      A request with `Upgrade:` gets 101 and then its bytes back.
echo  TCP, sends back what comes.
udp   UDP, sends back what comes.
"""

import hashlib
import http.server
import json
import socket
import sys
import threading
import time


class Mirror(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, 65536))
            if not piece:
                return
            left -= len(piece)
            yield piece

    def answer(self):
        if self.headers.get("Upgrade"):
            return self.upgrade()
        digest, length = hashlib.sha256(), 0
        for piece in self.body():
            digest.update(piece)
            length += len(piece)
        if self.path.startswith("/late/"):
            time.sleep(0.25)
        if self.path.startswith("/big/"):
            left = int(self.path.rsplit("/", 1)[1])
            self.send_response(200)
            self.send_header("Content-Length", str(left))
            self.end_headers()
            piece = bytes(range(256)) * 256
            while left:
                left -= self.wfile.write(piece[:left])
            return
        seen = {
            "client": self.client_address[0].removeprefix("::ffff:"),
            "client_port": self.client_address[1],
            "method": self.command,
            "path": self.path,
            "headers": {k.lower(): v for k, v in self.headers.items()},
            "length": length,
            "sha256": digest.hexdigest(),
        }
        text = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def upgrade(self):
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", self.headers["Upgrade"])
        self.end_headers()
        while piece := self.rfile.read1(65536):
            self.wfile.write(piece)
        self.close_connection = True


for method in "GET HEAD POST PUT PATCH DELETE OPTIONS TRACE".split():
    setattr(Mirror, "do_" + method, Mirror.answer)


def bound(kind, port, address):
    address = address or "::"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
    s.bind((address, port))
    if kind == socket.SOCK_STREAM:
        # A client in a tight loop is faster than this: a full queue would cost it a SYN and a second.
        s.listen(4096)
    return s


def serve_http(s):
    server = http.server.ThreadingHTTPServer(("", 0), Mirror, bind_and_activate=False)
    server.socket.close()
    server.socket = s
    server.server_name, server.server_port = "mirror", s.getsockname()[1]
    server.serve_forever()


def echo_one(s):
    try:
        while piece := s.recv(65536):
            s.sendall(piece)
    except OSError:
        pass
    s.close()


def serve_echo(s):
    while True:
        threading.Thread(target=echo_one, args=(s.accept()[0],), daemon=True).start()


def serve_udp(s):
    while True:
        data, peer = s.recvfrom(65536)
        s.sendto(data, peer)


SERVE = {"http": serve_http, "echo": serve_echo, "udp": serve_udp}
for word in sys.argv[1:]:
    what, _, address = word.partition("@")
    kind, port = what.split(":")
    s = bound(socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM, int(port), address)
    threading.Thread(target=SERVE[kind], args=(s,), daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
