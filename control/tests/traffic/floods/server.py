"""Servers that treat their clients badly: server.py KIND:PORT...

deaf   accepts and neither reads nor answers.
silent reads everything and never answers.
early  answers each request with 1xx after 1xx, and never with anything else.
half   answers with the beginning of a body, and then falls silent.
"""

import socket
import sys
import threading
import time


def deaf(connection):
    time.sleep(3600)


def silent(connection):
    while connection.recv(1 << 16):
        pass


def early(connection):
    connection.recv(1 << 16)
    while True:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" * 100)
        time.sleep(0.01)


def half(connection):
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbeginning")
    time.sleep(3600)


def serve(listener, kind):
    def one(connection):
        try:
            kind(connection)
        except OSError:
            pass
        connection.close()

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=one, args=(connection,), daemon=True).start()


for word in sys.argv[1:]:
    kind, port = word.split(":")
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::", int(port)))
    listener.listen(1024)
    threading.Thread(target=serve, args=(listener, globals()[kind])).start()
