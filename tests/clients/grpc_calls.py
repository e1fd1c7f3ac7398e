"""gRPC by its official Python package: every kind of call, directly and through the proxy, with the same outcome.

    python grpc_calls.py BINARY        (tests/clients/run.py calls it so, in an environment that has grpcio)

No generated code: methods are byte strings in, byte strings out. Ends with `N passed, N failed`.
"""

import concurrent.futures
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import grpc

BINARY = sys.argv[1]
WORK = pathlib.Path(tempfile.mkdtemp(prefix="outrigger-grpc-"))
seen_cancel = threading.Event()


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-sum-bin", b"\x00\xff"), ("x-via", metadata.get("via", ""))))
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100 % sure, ü")
    if request == b"big":
        return b"x" * (3 << 20)
    if request == b"slow":
        context.add_callback(seen_cancel.set)
        time.sleep(5)
    return b"echo:" + request


def down(request, context):
    for n in range(int(request)):
        yield b"%d" % n
    context.set_trailing_metadata((("x-count", request.decode()),))


def up(requests, context):
    return b"%d" % sum(len(piece) for piece in requests)


def both(requests, context):
    for piece in requests:
        yield b"echo:" + piece


class Service(grpc.GenericRpcHandler):
    kinds = {"/t.T/Unary": grpc.unary_unary_rpc_method_handler(unary), "/t.T/Down": grpc.unary_stream_rpc_method_handler(down),
             "/t.T/Up": grpc.stream_unary_rpc_method_handler(up), "/t.T/Both": grpc.stream_stream_rpc_method_handler(both)}

    def service(self, details):
        return self.kinds.get(details.method)


def outcome(call):
    """What a caller sees: results, or the status with its message; and the trailing metadata that are not the proxy's own."""
    try:
        value, trailing = call()
        return value, sorted((name, text) for name, text in trailing if name in ("x-sum-bin", "x-count"))
    except grpc.RpcError as error:
        return error.code().name, error.details()


def calls(channel):
    def one(request, timeout=20):
        value, call = channel.unary_unary("/t.T/Unary").with_call(request, timeout=timeout)
        return value, call.trailing_metadata()

    def stream(request):
        call = channel.unary_stream("/t.T/Down")(request, timeout=20)
        return list(call), call.trailing_metadata()

    def upload(pieces):
        value, call = channel.stream_unary("/t.T/Up").with_call(iter(pieces), timeout=20)
        return value, call.trailing_metadata()

    def talk(pieces):
        """Each answer is waited for before the next piece is sent: nothing may be held back."""
        gate, answers = threading.Semaphore(1), []

        def sending():
            for piece in pieces:
                gate.acquire()
                yield piece

        call = channel.stream_stream("/t.T/Both")(sending(), timeout=20)
        for answer in call:
            answers.append(answer)
            gate.release()
        return answers, call.trailing_metadata()

    return {
        "unary": lambda: outcome(lambda: one(b"hello")),
        "an error with its message": lambda: outcome(lambda: one(b"fail")),
        "3 MiB": lambda: outcome(lambda: one(b"big")),
        "an unknown method": lambda: outcome(lambda: (channel.unary_unary("/t.T/None")(b"", timeout=20), ())),
        "a server stream of 1,000": lambda: outcome(lambda: stream(b"1000")),
        "an empty server stream": lambda: outcome(lambda: stream(b"0")),
        "a client stream of 4 MiB": lambda: outcome(lambda: upload([b"y" * 65536] * 64)),
        "an empty client stream": lambda: outcome(lambda: upload([])),
        "a conversation": lambda: outcome(lambda: talk([b"%d" % n for n in range(50)])),
        "100 at once": lambda: [one.result() for one in [pool.submit(outcome, lambda n=n: one_of(channel, n)) for n in range(100)]],
    }


def one_of(channel, n):
    value, call = channel.unary_unary("/t.T/Unary").with_call(b"%d" % n, timeout=20)
    return value, call.trailing_metadata()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def proxy(app, more=""):
    port, probes = free_port(), free_port()
    file = WORK / f"proxy-{port}.yaml"
    file.write_text(f"inbound:\n  listen: 127.0.0.1:{port}\n  app: http://127.0.0.1:{app}\n  app_protocol: http2\n{more}"
                    f"admin: {{listen: off, probes: 127.0.0.1:{probes}, socket: off}}\nshutdown: {{drain_delay: 0s, deadline: 5s}}\n")
    process = subprocess.Popen([BINARY, "run", "--config", file], stdin=subprocess.DEVNULL, stdout=(WORK / f"log-{port}").open("wb"),
                               stderr=subprocess.STDOUT)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", probes), 1).close()
            return process, port
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise RuntimeError((WORK / f"log-{port}").read_text())


passed = failed = 0


def check(name, good, said=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(("ok   " if good else "FAIL ") + name + ("" if good else f": {str(said)[:400]}"), flush=True)


pool = concurrent.futures.ThreadPoolExecutor(128)
server = grpc.server(concurrent.futures.ThreadPoolExecutor(128), options=[("grpc.so_reuseport", 0)])
server.add_generic_rpc_handlers((Service(),))
app = server.add_insecure_port("127.0.0.1:0")
server.start()
started = []
try:
    process, port = proxy(app)
    started.append(process)
    with grpc.insecure_channel(f"127.0.0.1:{app}") as direct, grpc.insecure_channel(f"127.0.0.1:{port}") as through:
        ours = calls(through)
        for name, call in calls(direct).items():
            wanted, got = call(), ours[name]()
            check(f"gRPC, {name}: as direct", wanted == got, f"{str(wanted)[:150]} is not {str(got)[:150]}")
        code, _ = outcome(lambda: (through.unary_unary("/t.T/Unary")(b"slow", timeout=0.3), ()))
        check("gRPC, a deadline ends the call", code == "DEADLINE_EXCEEDED", code)
        check("gRPC, and the app is told", seen_cancel.wait(10))

    process, port = proxy(app, "  limits: [{key: global, requests: 1, window: 1h}]\n")
    started.append(process)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as through:
        one = through.unary_unary("/t.T/Unary")
        check("gRPC, within a limit", one(b"x", timeout=20) == b"echo:x")
        said = outcome(lambda: (one(b"x", timeout=20), ()))
        check("gRPC, a limit is RESOURCE_EXHAUSTED with its reason", said[0] == "RESOURCE_EXHAUSTED" and "limit" in said[1], said)

    process, port = proxy(free_port())
    started.append(process)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as through:
        said = outcome(lambda: (through.unary_unary("/t.T/Unary")(b"x", timeout=20), ()))
        check("gRPC, an app that is away is UNAVAILABLE with its reason", said[0] == "UNAVAILABLE" and "app" in said[1], said)
finally:
    for process in started:
        process.terminate()
        process.wait(15)
    server.stop(0)
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
