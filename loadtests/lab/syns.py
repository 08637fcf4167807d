"""One SYN a millisecond from one namespace to another, and which of them came through. Run by itself:
a process enters one namespace for each of its sockets.

    syns.py FROM TO SOURCE TARGET PORT CHANGES <operations on stdin, one line each: RENAME|REMOVE NEW|OLD ARGUMENTS…>

For each line: waits until what is sent has one verdict, makes the change between two SYNs, and prints the
milliseconds until the first SYN of the other verdict was sent."""

import ctypes
import os
import random
import select
import socket
import struct
import sys
import time

STEP = 0.001
# A SYN that has not come so long after it was sent does not come.
LATE = 0.060
LIMIT = 20.0
ETH_P_IP = 0x0800
libc = ctypes.CDLL(None, use_errno=True)


def inside(namespace: str, make):
    """A socket of that namespace; the process stays in it."""
    with open(f"/run/netns/{namespace}") as file:
        if libc.setns(file.fileno(), 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), f"enter {namespace}")
    return make()


def receiver() -> socket.socket:
    found = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    found.bind(("eth0", ETH_P_IP))
    found.setblocking(False)
    return found


def sender() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class Prober:
    def __init__(self, source: str, target: str, sends: socket.socket, receives: socket.socket, port: int):
        self.sends, self.receives, self.port = sends, receives, port
        self.target = target
        self.pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack(">BBH", 0, 6, 20)
        self.sent: list[float] = []
        self.came: set[int] = set()
        self.next = time.monotonic()

    def step(self) -> None:
        """Sends the next SYN when it is due; its sequence number is its number here."""
        self.listen(max(0.0, self.next - time.monotonic()))
        number = len(self.sent)
        # The port of an old flow comes again only when that one is long forgotten.
        head = struct.pack(">HHIIBBHHH", 1024 + number % 60000, self.port, number, 0, 5 << 4, 2, 1024, 0, 0)
        head = head[:16] + struct.pack(">H", checksum(self.pseudo + head)) + head[18:]
        self.sent.append(time.monotonic())
        self.sends.sendto(head, (self.target, 0))
        self.next = max(self.next + STEP, self.sent[-1] + STEP / 4)

    def listen(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            ready, _, _ = select.select([self.receives], [], [], max(0.0, left))
            if not ready:
                return
            packet = self.receives.recv(128)
            header = (packet[0] & 15) * 4
            if packet[9] == 6 and len(packet) >= header + 14:
                port, number, flags = struct.unpack_from(">HIxxxxxB", packet, header + 2)[0:3]
                if port == self.port and flags & 2:
                    self.came.add(number)

    def verdict(self, number: int) -> bool | None:
        """Whether that SYN came; None: not known yet."""
        if number in self.came:
            return True
        return False if time.monotonic() - self.sent[number] > LATE else None

    def settle(self, passes: bool) -> None:
        """Until 20 SYNs one after the other met that verdict."""
        deadline = time.monotonic() + LIMIT
        run, judged = 0, len(self.sent)
        while run < 20:
            self.step()
            while judged < len(self.sent) and self.verdict(judged) is not None:
                run = run + 1 if self.verdict(judged) == passes else 0
                judged += 1
            if time.monotonic() > deadline:
                raise SystemExit(f"syns: the verdict did not settle ({passes})")

    def measure(self, change, passes: bool) -> float:
        """Milliseconds until SYNs meet the other verdict, `passes`."""
        self.settle(not passes)
        # Anywhere between two SYNs.
        time.sleep(random.random() * STEP)
        since = time.monotonic()
        change()
        judged, deadline = len(self.sent), since + LIMIT
        while True:
            self.step()
            while judged < len(self.sent) and self.verdict(judged) is not None:
                # A SYN that was lost otherwise is no change: the next ones say the same.
                if self.verdict(judged) == passes and self.confirmed(judged, passes):
                    return (self.sent[judged] - since) * 1000
                judged += 1
            if time.monotonic() > deadline:
                raise SystemExit("syns: the change had no effect")

    def confirmed(self, number: int, passes: bool) -> bool:
        while len(self.sent) < number + 3:
            self.step()
        while self.verdict(number + 2) is None:
            self.step()
        return all(self.verdict(n) == passes for n in (number + 1, number + 2))


def main() -> None:
    source_namespace, target_namespace, source, target, port = sys.argv[1:6]
    receives = inside(target_namespace, receiver)
    prober = Prober(source, target, inside(source_namespace, sender), receives, int(port))
    for line in sys.stdin:
        what, passes, *paths = line.split()
        change = {"RENAME": lambda: os.rename(*paths), "REMOVE": lambda: os.unlink(*paths)}[what]
        print(f"{prober.measure(change, passes == 'PASS'):.3f}", flush=True)


if __name__ == "__main__":
    main()
