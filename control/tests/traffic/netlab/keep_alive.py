"""One HTTP/1.1 connection, driven from standard input: keep_alive.py HOST PORT

A line `METHOD PATH` makes a request and prints `STATUS LOCAL_PORT`; a connection that is gone is
never opened again: `closed REASON` instead.
"""

import http.client
import sys

connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=30)
connection.connect()
connection.auto_open = 0
port = connection.sock.getsockname()[1]
print("connected", flush=True)
for line in sys.stdin:
    method, path = line.split()
    try:
        connection.request(method, path)
        response = connection.getresponse()
        response.read()
        print(response.status, port, flush=True)
    except Exception as e:
        print("closed", repr(e), flush=True)
