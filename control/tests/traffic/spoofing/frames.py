"""Raw frames out of a workload's device: frames.py send HEX | frames.py syn HEX SECONDS

`send` sends one Ethernet frame. `syn` sends one and prints `answered` when a TCP segment with SYN and
ACK comes back to its source port in time, else `silent`.
"""

import socket
import sys
import time

device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
device.bind(("eth0", 0))
frame = bytes.fromhex(sys.argv[2])
if sys.argv[1] == "send":
    device.send(frame)
    sys.exit()

v6 = frame[12:14] == b"\x86\xdd"
tcp = 14 + (40 if v6 else 20)
source_port = frame[tcp : tcp + 2]
end = time.monotonic() + float(sys.argv[3])
sent = 0.0
while (now := time.monotonic()) < end:
    if now - sent > 0.5:
        device.send(frame)
        sent = now
    device.settimeout(max(min(end, sent + 0.5) - now, 0.01))
    try:
        got, address = device.recvfrom(2048)
    except TimeoutError:
        continue
    if address[2] != socket.PACKET_OUTGOING and got[12:14] == frame[12:14]:
        if got[tcp + 2 : tcp + 4] == source_port and got[tcp + 13] & 0x12 == 0x12:
            print("answered")
            sys.exit()
print("silent")
