"""The interoperability service on grpcio, with health and reflection beside it.

interop_server.py PORT [AGE]    AGE: how old a connection grows before the server takes its leave, in ms

Beyond what the service is known for: `x-mirror` in a unary call's metadata brings back, in the
trailers, all metadata that the server saw, and `x-end` ends the process; the last message of a stream
whose request has a status is followed by that status.
"""

import asyncio
import os
import pathlib
import sys

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

sys.path.insert(0, str(pathlib.Path(__file__).parent))
pb, services = grpc.protos_and_services("interop.proto")

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
PATTERN = bytes(i * 31 % 251 for i in range(1 << 20))


def body(size):
    return pb.Payload(body=PATTERN[:size])


async def echo_metadata(context):
    seen = context.invocation_metadata()
    asked = dict(seen)
    if INITIAL in asked:
        await context.send_initial_metadata(((INITIAL, asked[INITIAL]),))
    trailing = []
    if TRAILING in asked:
        trailing.append((TRAILING, asked[TRAILING]))
    if "x-mirror" in asked:
        trailing.append(("x-seen-bin", "\n".join(sorted(f"{k}={v!r}" for k, v in seen)).encode()))
    context.set_trailing_metadata(tuple(trailing))


class Test(services.TestServiceServicer):
    async def EmptyCall(self, request, context):
        return pb.Empty()

    async def UnaryCall(self, request, context):
        await echo_metadata(context)
        if "x-end" in dict(context.invocation_metadata()):
            os._exit(0)
        if request.response_status.code:
            await context.abort(request.response_status.code, request.response_status.message)
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        return pb.SimpleResponse(payload=body(request.response_size))

    async def stream(self, request):
        for one in request.response_parameters:
            await asyncio.sleep(one.interval_us / 1e6)
            yield pb.StreamingOutputCallResponse(payload=body(one.size))

    async def StreamingOutputCall(self, request, context):
        if any(one.compressed.value for one in request.response_parameters):
            context.set_compression(grpc.Compression.Gzip)
        async for response in self.stream(request):
            yield response
        if request.response_status.code:
            await context.abort(request.response_status.code, request.response_status.message)

    async def StreamingInputCall(self, requests, context):
        total = 0
        async for request in requests:
            total += len(request.payload.body)
        return pb.StreamingInputCallResponse(aggregated_payload_size=total)

    async def FullDuplexCall(self, requests, context):
        await echo_metadata(context)
        async for request in requests:
            if request.response_status.code:
                await context.abort(request.response_status.code, request.response_status.message)
            async for response in self.stream(request):
                yield response


async def main():
    ages = [("grpc.max_connection_age_ms", int(age)) for age in sys.argv[2:]]
    server = grpc.aio.server(options=ages)
    services.add_TestServiceServicer_to_server(Test(), server)
    state = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    names = ("grpc.testing.TestService", health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    server.add_insecure_port(f"[::]:{sys.argv[1]}")
    await server.start()
    await state.set("", 1)
    await server.wait_for_termination()


asyncio.run(main())
