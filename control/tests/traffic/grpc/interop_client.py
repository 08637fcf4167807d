"""gRPC's interoperability cases on grpcio, over one channel; an outcome a line.

interop_client.py allowed ADDRESS CASE...   each case as it is known
interop_client.py denied ADDRESS CASE...    a policy denies their calls: streams are left open by the
                                            client, so that only the denial ends them, and each is
                                            followed by a call that the policy allows
"""

import collections
import concurrent.futures
import pathlib
import sys
import threading
import time
import zlib

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parent))
pb, services = grpc.protos_and_services("interop.proto")

DENIED = sys.argv[1] == "denied"
LIMIT = 60
GZIP = grpc.Compression.Gzip
# No two runs have the same of these.
VARYING = {"date"}
REQUESTS, RESPONSES = (27182, 8, 1828, 45904), (31415, 9, 2653, 58979)


def payload(size, seed=7):
    return pb.Payload(body=bytes((i * seed + (i >> 8)) % 256 for i in range(size)))


def metadata(pairs):
    return sorted((k, v) for k, v in tuple(pairs or ()) if k not in VARYING)


def told(call, messages):
    """What the client knows once a call is over."""
    octets = b"".join(message.SerializeToString(deterministic=True) for message in messages)
    text = f"{call.code().name} {call.details()!r} {len(messages)} messages {zlib.crc32(octets):08x}"
    if DENIED:
        return text
    return f"{text} {metadata(call.initial_metadata())} {metadata(call.trailing_metadata())}"


def unary(method, request, **options):
    try:
        message, call = method.with_call(request, timeout=LIMIT, **options)
        return told(call, [message])
    except grpc.RpcError as error:
        return told(error, [])


class Requests:
    """Messages of a stream: all at once, or each but the first when the one before has its answer.

    Where calls are denied, and where it is told to, the stream has no end until the call has one.
    """

    def __init__(self, messages, one_by_one=False, stays=DENIED):
        self.stays = stays
        self.messages, self.over = collections.deque(messages), threading.Event()
        self.turns = threading.Semaphore(1) if one_by_one else None

    def __iter__(self):
        return self

    def __next__(self):
        if self.turns and self.messages:
            self.turns.acquire()
        if self.messages and not self.over.is_set():
            return self.messages.popleft()
        if self.stays:
            self.over.wait()
        raise StopIteration

    def answered(self):
        if self.turns:
            self.turns.release()


def streamed(method, requests, **options):
    """Writes the requests and reads what comes."""
    messages = []
    call = method(requests, timeout=LIMIT, **options)
    try:
        for message in call:
            messages.append(message)
            if isinstance(requests, Requests):
                requests.answered()
    except grpc.RpcError:
        pass
    if isinstance(requests, Requests):
        requests.over.set()
        requests.answered()
    return told(call, messages)


def gathered(method, messages, **options):
    requests = Requests(messages)
    try:
        message, call = method.with_call(requests, timeout=LIMIT, **options)
        return told(call, [message])
    except grpc.RpcError as error:
        return told(error, [])
    finally:
        requests.over.set()


def simple(**fields):
    return pb.SimpleRequest(response_size=314159, payload=payload(271828), **fields)


def wanted(sizes, **fields):
    return pb.StreamingOutputCallRequest(
        response_parameters=[pb.ResponseParameters(size=size, **fields) for size in sizes]
    )


class Cases:
    def __init__(self, channel):
        self.test = services.TestServiceStub(channel)
        self.other = services.UnimplementedServiceStub(channel)
        self.duplex = self.test.FullDuplexCall

    def empty_unary(self):
        return unary(self.test.EmptyCall, pb.Empty())

    def large_unary(self):
        return unary(self.test.UnaryCall, simple())

    def client_streaming(self):
        requests = [pb.StreamingInputCallRequest(payload=payload(size)) for size in REQUESTS]
        return gathered(self.test.StreamingInputCall, requests)

    def server_streaming(self):
        return streamed(self.test.StreamingOutputCall, wanted(RESPONSES))

    def ping_pong(self):
        requests = [wanted([size]) for size in RESPONSES]
        for request, size in zip(requests, REQUESTS):
            request.payload.CopyFrom(payload(size))
        return streamed(self.duplex, Requests(requests, one_by_one=True))

    def empty_stream(self):
        return streamed(self.duplex, Requests([]))

    def cancel_after_begin(self):
        requests = Requests([], stays=True)
        call = self.test.StreamingInputCall.future(requests, timeout=LIMIT)
        call.cancel()
        requests.over.set()
        return call.code().name

    def cancel_after_first_response(self):
        if DENIED:
            return streamed(self.duplex, Requests([wanted([31415])]))
        requests = Requests([wanted([31415])] * 2, one_by_one=True)
        call = self.duplex(requests, timeout=LIMIT)
        first = next(call)
        call.cancel()
        requests.answered()
        return f"{len(first.payload.body)} octets, then {call.code().name}"

    def timeout_on_sleeping_server(self):
        request = wanted([31415], interval_us=1_500_000)
        if DENIED:
            return streamed(self.duplex, Requests([request]))
        call = self.duplex(iter([request]), timeout=0.2)
        try:
            next(call)
        except grpc.RpcError:
            pass
        # The server resets the stream at the same moment.
        code = call.code().name
        return "at its deadline" if code in ("DEADLINE_EXCEEDED", "CANCELLED") else code

    def status_code_and_message(self):
        status = pb.EchoStatus(code=2, message="test status message")
        one = unary(self.test.UnaryCall, pb.SimpleRequest(response_status=status))
        other = pb.StreamingOutputCallRequest(response_status=status)
        return f"{one}; {streamed(self.duplex, Requests([other]))}"

    def special_status_message(self):
        message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP \U0001f608\t\n"
        status = pb.EchoStatus(code=2, message=message)
        return unary(self.test.UnaryCall, pb.SimpleRequest(response_status=status))

    def unimplemented_method(self):
        return unary(self.test.UnimplementedCall, pb.Empty())

    def unimplemented_service(self):
        return unary(self.other.UnimplementedCall, pb.Empty())

    def custom_metadata(self):
        sent = (
            ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
            ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab\x00\xff"),
        )
        one = unary(self.test.UnaryCall, simple(), metadata=sent)
        return f"{one}; {streamed(self.duplex, Requests([wanted([314159])]), metadata=sent)}"

    def mirrored_metadata(self):
        sent = (
            ("x-mirror", "1"),
            ("x-twice", "one"),
            ("x-twice", "two, three"),
            ("x-empty", ""),
            ("x-ascii", "".join(map(chr, range(33, 127)))),
            ("x-long", "l" * 4000),
            ("authorization", "Bearer token"),
            ("cookie", "a=b; c=d"),
            ("x-octets-bin", bytes(range(256))),
            ("x-empty-bin", b""),
        )
        return unary(self.test.UnaryCall, pb.SimpleRequest(response_size=1), metadata=sent)

    def client_compressed_unary(self):
        request = simple(expect_compressed=pb.BoolValue(value=True))
        return unary(self.test.UnaryCall, request, compression=GZIP, metadata=(("x-mirror", "1"),))

    def server_compressed_unary(self):
        return unary(self.test.UnaryCall, simple(response_compressed=pb.BoolValue(value=True)))

    def client_compressed_streaming(self):
        squeezed = pb.BoolValue(value=True)
        requests = [
            pb.StreamingInputCallRequest(payload=payload(size), expect_compressed=squeezed)
            for size in REQUESTS
        ]
        return gathered(self.test.StreamingInputCall, requests, compression=GZIP)

    def server_compressed_streaming(self):
        request = wanted(RESPONSES, compressed=pb.BoolValue(value=True))
        return streamed(self.test.StreamingOutputCall, request)

    def many_calls(self):
        """2,000 of them, from eight threads."""
        call = lambda _: unary(self.test.EmptyCall, pb.Empty()).split()[0]
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            counts = collections.Counter(threads.map(call, range(2000)))
        return " ".join(f"{code} {count}" for code, count in sorted(counts.items()))

    def server_gone(self):
        """The server ends in the middle of two calls, and comes back."""
        requests = Requests([wanted([31415])], stays=True)
        stream = self.duplex(requests, timeout=LIMIT)
        next(stream)
        ending = unary(self.test.UnaryCall, pb.SimpleRequest(), metadata=(("x-end", "1"),)).split()[0]
        try:
            for _ in stream:
                pass
        except grpc.RpcError:
            pass
        requests.over.set()
        until = time.monotonic() + LIMIT
        while (after := unary(self.test.EmptyCall, pb.Empty()).split()[0]) == "UNAVAILABLE":
            if time.monotonic() > until:
                break
            time.sleep(0.1)
        return f"{ending}, its stream {stream.code().name}, later {after}"


# One connection for all, as long as it lives: no retries.
with grpc.insecure_channel(sys.argv[2], options=[("grpc.enable_retries", 0)]) as channel:
    cases = Cases(channel)
    for name in sys.argv[3:]:
        outcome = getattr(cases, name)()
        if DENIED:
            probe = cases.large_unary if name == "empty_unary" else cases.empty_unary
            outcome += f", and then {probe().split()[0]}"
        print(f"{name}: {outcome}", flush=True)
