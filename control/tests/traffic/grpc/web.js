// gRPC-Web on Connect for Node, the unmodified library on both sides.
//   web.js DESCRIPTORS serve        gRPC-Web over HTTP/1.1 on port 7000, over HTTP/2 on 7001
//   web.js DESCRIPTORS call HOST    the same calls over both, an outcome a line
const fs = require("node:fs");
const http = require("node:http");
const http2 = require("node:http2");
const { createFileRegistry, fromBinary } = require("@bufbuild/protobuf");
const { FileDescriptorSetSchema } = require("@bufbuild/protobuf/wkt");
const { Code, ConnectError, createClient } = require("@connectrpc/connect");
const { connectNodeAdapter, createGrpcWebTransport } = require("@connectrpc/connect-node");

const [descriptors, what, host] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, fs.readFileSync(descriptors)));
const service = registry.getService("grpc.testing.TestService");
const PORTS = { "1.1": 7000, 2: 7001 };

function serve() {
  const payload = (size) => ({ body: Uint8Array.from({ length: size }, (_, at) => (at * 31) % 251) });
  const answer = (request, context) => {
    const initial = context.requestHeader.get("x-grpc-test-echo-initial");
    if (initial) context.responseHeader.set("x-grpc-test-echo-initial", initial);
    context.responseTrailer.set("x-trailer", "kept");
    const status = request.responseStatus;
    if (status?.code) throw new ConnectError(status.message, status.code);
  };
  const routes = (router) =>
    router.service(service, {
      emptyCall: () => ({}),
      unaryCall: (request, context) => {
        answer(request, context);
        return { payload: payload(request.responseSize) };
      },
      async *streamingOutputCall(request, context) {
        answer(request, context);
        for (const one of request.responseParameters) yield { payload: payload(one.size) };
      },
    });
  const handler = connectNodeAdapter({ routes, connect: false, grpc: false });
  http.createServer(handler).listen(PORTS["1.1"]);
  http2.createServer(handler).listen(PORTS[2]);
}

async function outcome(call) {
  const told = [];
  const onHeader = (headers) => told.push(`initial ${headers.get("x-grpc-test-echo-initial")}`);
  const onTrailer = (headers) => told.push(`trailing ${headers.get("x-trailer")}`);
  try {
    for await (const message of call({ onHeader, onTrailer, timeoutMs: 60000 })) {
      const body = message.payload?.body ?? [];
      told.push(`${body.length}:${body.reduce((sum, octet, at) => (sum + octet * (at + 1)) % 65521, 0)}`);
    }
    told.push("OK");
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    told.push(`${Code[code]} ${JSON.stringify(rawMessage)}`);
  }
  return told.join(", ");
}

async function call() {
  for (const [httpVersion, port] of Object.entries(PORTS)) {
    const address = host.includes(":") ? `[${host}]` : host;
    const baseUrl = `http://${address}:${port}`;
    const client = createClient(service, createGrpcWebTransport({ baseUrl, httpVersion }));
    const once = (method, request) =>
      async function* (options) {
        yield await client[method](request, options);
      };
    const headers = { "x-grpc-test-echo-initial": "value" };
    const sizes = [31415, 9, 2653, 58979].map((size) => ({ size }));
    const responseStatus = { code: 3, message: "a status, ☺" };
    const cases = {
      emptyCall: once("emptyCall", {}),
      unaryCall: (options) => once("unaryCall", { responseSize: 314159 })({ headers, ...options }),
      status: once("unaryCall", { responseStatus }),
      streamingOutputCall: (options) => client.streamingOutputCall({ responseParameters: sizes }, options),
      streamedStatus: (options) => client.streamingOutputCall({ responseStatus }, options),
      unimplemented: once("unimplementedCall", {}),
      emptyCallAgain: once("emptyCall", {}),
    };
    for (const [name, run] of Object.entries(cases)) {
      console.log(`HTTP/${httpVersion} ${name}: ${await outcome(run)}`);
    }
  }
}

if (what === "serve") serve();
else call().then(() => process.exit(0));
