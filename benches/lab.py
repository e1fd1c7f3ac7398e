"""What the measured proofs share (tests/conformance, benches/slow, benches/rolling): an origin, and the proxy as a process.

    python3 benches/lab.py origin           an HTTP/1.1 origin on a free port, which it prints; it ends when its input does

Paths of the origin, all of them for any method:

    /events?n=20&ms=100      server-sent events, `n` of them, `ms` apart; the last one is `event: done`
    /endless                 server-sent events as fast as they are taken, for ever
    /bytes?n=1000000         a body of `n` octets
    anything else            1 KiB, after the whole request has come; what came is told in X-Got: length and CRC-32

Python's standard library alone. Loopback only, free ports; it ends the processes it has started and no others.
"""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KIB = b"k" * 1024
PIECE = b"." * (64 << 10)
EVENT = b"data: " + b"e" * 1018 + b"\n\n"


# ---- the origin ------------------------------------------------------------------------------------------------------

async def read_head(reader):
    """The start line and the fields, names in lower case; None at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    return first, fields


async def read_body(reader, fields):
    """Pieces of a body, by its length or its chunks."""
    if "chunked" in fields.get("transfer-encoding", ""):
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield (await reader.readexactly(size + 2))[:-2]
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return
    left = int(fields.get("content-length", "0"))
    while left:
        piece = await reader.read(min(left, 1 << 16))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


async def answer(reader, writer):
    while head := await read_head(reader):
        method, target, _ = head[0].split(" ", 2)
        if head[1].get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = crc = 0
        async for piece in read_body(reader, head[1]):
            length, crc = length + len(piece), zlib.crc32(piece, crc)
        path, _, query = target.partition("?")
        asked = {name: int(value) for name, value in urllib.parse.parse_qsl(query) if value.isdigit()}
        bare = method == "HEAD"
        if path in ("/events", "/endless"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            if bare:
                continue
            count = asked.get("n", 20)
            at = 0
            while path == "/endless" or at < count - 1:
                writer.write(chunk(EVENT if path == "/endless" else b"data: %d\n\n" % at))
                await writer.drain()
                at += 1
                await asyncio.sleep(asked.get("ms", 100) / 1000 if path == "/events" else 0)
            writer.write(chunk(b"event: done\ndata: %d\n\n" % at) + b"0\r\n\r\n")
        elif path == "/bytes":
            left = asked.get("n", 1_000_000)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
            while left and not bare:
                writer.write(PIECE[:left])
                left -= min(left, len(PIECE))
                await writer.drain()
                await asyncio.sleep(0)  # The others' turn, also while the socket takes everything.
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Got: %d %08x\r\nContent-Length: 1024\r\n\r\n" % (length, crc)
                         + (b"" if bare else KIB))
        await writer.drain()


async def connection(reader, writer):
    try:
        await answer(reader, writer)
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # The other side has gone or talks nonsense: the connection ends.
    finally:
        writer.close()


async def serve():
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    # Small, so that hundreds of large answers that nobody reads do not keep this process busy with filling buffers.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
    server = await asyncio.start_server(connection, sock=listening, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


# ---- processes -------------------------------------------------------------------------------------------------------

def free_ports(count):
    """So many different ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def binary(told):
    """The proxy to test: as told, or the one that was built."""
    for path in [told] if told else [os.path.join(ROOT, "target", profile, "outrigger") for profile in ("release", "debug")]:
        if os.access(path, os.X_OK):
            return os.path.abspath(path)
    sys.exit(f"no proxy to test{f' at {told}' if told else ''}: name one, or run `cargo build --release` first")


def many_files(wanted):
    """Lets this process and those it starts open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
        except (ValueError, OSError):
            sys.exit(f"{wanted} open files are needed, the limit is {hard}: raise it (ulimit -n {wanted})")


def resident(pid):
    """Resident memory in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


class Origin:
    """The origin above, as a process."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), "origin"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


class Proxy:
    """One proxy in front of `app`; `extra` is more of proxy.yaml."""

    def __init__(self, path, work, app, name="proxy", inbound="", extra=""):
        self.path, self.name, self.process = path, name, None
        self.port, self.admin, self.probes = free_ports(3)
        self.socket = os.path.join(work, f"{name}.sock")
        self.config = os.path.join(work, f"{name}.yaml")
        self.log = os.path.join(work, f"{name}.log")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f"inbound:\n  listen: 127.0.0.1:{self.port}\n  app: http://127.0.0.1:{app}\n{inbound}"
                       f"admin: {{listen: 127.0.0.1:{self.admin}, probes: 127.0.0.1:{self.probes}, socket: {self.socket}}}\n"
                       f"telemetry: {{log: \"off\"}}\n{extra}")

    def start(self):
        """Returns when it is ready."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.path, "run", "--config", self.config],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + 20
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > until:
                with open(self.log, encoding="utf-8") as log:
                    sys.exit(f"the proxy did not start:\n{log.read()}")
            time.sleep(0.02)
        return self

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.probes}/ready", timeout=2) as answered:
                return answered.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def metrics(self):
        """Every sample of a scrape, by its name with labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.probes}/metrics", timeout=10) as answered:
            lines = [line.rpartition(" ") for line in answered.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def metric(self, name, *having):
        """The sum of a family's samples with these labels."""
        return sum(value for key, value in self.metrics().items()
                   if key.partition("{")[0] == name and all(label in key for label in having))

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()


def quantile(values, share):
    """Of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


if __name__ == "__main__":
    if sys.argv[1:] != ["origin"]:
        sys.exit(__doc__)
    asyncio.run(serve())
