"""The demo's order service on grpcio: texts as messages, so that no code need be generated.

orders.py serve                     on port 50051
orders.py call ADDRESS METHOD...    one call each, on one connection
"""

import sys
from concurrent import futures

import grpc

SERVICE = "shop.Orders"


def text(octets):
    return octets.decode()


def serve():
    def answer(method):
        handle = lambda request, context: f"{method} {request}: done"
        return grpc.unary_unary_rpc_method_handler(handle, text, str.encode)

    methods = {method: answer(method) for method in ("Get", "Place", "Cancel")}
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_insecure_port("[::]:50051")
    server.start()
    server.wait_for_termination()


def call(address, *methods):
    with grpc.insecure_channel(address) as channel:
        for method in methods:
            try:
                print(channel.unary_unary(f"/{SERVICE}/{method}", str.encode, text)("42", timeout=5))
            except grpc.RpcError as error:
                print(f"{method}: {error.code().name}: {error.details()}")


serve() if sys.argv[1] == "serve" else call(*sys.argv[2:])
