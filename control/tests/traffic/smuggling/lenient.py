"""Reads streams of octets as Python's http.server does, which is known for taking much.

In: `CLIENT HEX` a line. Out: a JSON object {client, method, target, fields} a request.
"""

import http.server
import io
import json
import sys


class Reader(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, client, octets):
        self.client = client
        self.client_address = (client, 0)
        self.rfile = io.BytesIO(octets)
        self.wfile = io.BytesIO()
        self.close_connection = False
        self.requestline = ""
        while not self.close_connection:
            self.handle_one_request()

    def log_message(self, *_):
        pass

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.read
        raise AttributeError(name)

    def read(self):
        fields = self.headers.items()
        read = {"client": self.client, "method": self.command, "target": self.path, "fields": fields}
        print(json.dumps(read))
        try:
            self.body()
        except ValueError:
            self.close_connection = True
        # Not what was asked for, but what is there, decides whether another request is read.
        self.close_connection = self.rfile.tell() >= len(self.rfile.getbuffer())

    def body(self):
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))


for line in sys.stdin:
    client, octets = line.rstrip("\n").split(" ")
    Reader(client, bytes.fromhex(octets))
