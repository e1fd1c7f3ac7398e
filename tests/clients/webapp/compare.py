"""Web apps by others behind the inbound door: the same requests direct and through the proxy must come out the same.

Apps (each alone behind a proxy that names no policy, `outrigger run --app PORT`):

    tests/tools.sh
    target/tools/venv/bin/gunicorn -k gthread --threads 16 --keep-alive 5 -b 127.0.0.1:3001 httpbin:app
    HOST=127.0.0.1 PORT=3002 target/tools/node/node_modules/.bin/y-websocket
    PORT=3003 target/tools/node/node_modules/.bin/mcp-server-everything sse

Then, for each of `httpbin`, `websocket` and `sse`:

    python3 tests/clients/webapp/compare.py httpbin http://127.0.0.1:3001 http://127.0.0.1:8080

Compared are status, header fields and body bytes. Left out are hop-by-hop fields, Date, Via and our own request id; and,
where the app shows what it received, what a proxy must add or end (X-Forwarded-*, Via, trace context, TE).
Prints a line for every check, then `N passed, N failed`; exits 1 if one failed. Needs only the standard library.
"""

import base64
import hashlib
import http.client
import json
import os
import socket
import struct
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from verdicts import check, finish  # noqa: E402

HOST = "app.example"  # the same for both, so that absolute URLs in answers are the same
OWN = {"date", "connection", "keep-alive", "transfer-encoding", "via", "x-request-id"}
ADDED = {"te", "via", "forwarded", "x-request-id", "baggage", "traceparent", "tracestate", "connection", "keep-alive", "x-real-ip"}


def same(proxied, direct, what):
    assert proxied == direct, f"{what}: through the proxy {proxied!r:.300}, direct {direct!r:.300}"


def place(url):
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port or 80


def connect(url, timeout=20):
    return http.client.HTTPConnection(*place(url), timeout=timeout)


# --- HTTP ---------------------------------------------------------------------------------------

def exchange(connection, method, path, headers=(), body=None, chunked=False):
    """One request with exactly these fields; status, fields and body of its answer."""
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", HOST)
    for name, value in headers:
        connection.putheader(name, value)
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders(iter(body), encode_chunked=True)
    else:
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
    answer = connection.getresponse()
    # http.client joins no fields, and leaves the encoding of the body alone
    fields = sorted((name.lower(), value) for name, value in answer.getheaders() if name.lower() not in OWN)
    return answer.status, answer.reason, fields, answer.read()


def shown(body):
    """The body as the app meant it: without what a proxy adds to the request that the app describes."""
    def strip(value):
        if isinstance(value, dict):
            headers = value.get("headers")
            if isinstance(headers, dict):
                value["headers"] = {name: text for name, text in headers.items() if name.lower() not in ADDED and not name.lower().startswith("x-forwarded")}
            value.pop("origin", None)
        return value
    try:
        return strip(json.loads(body))
    except ValueError:
        pass
    try:
        return [strip(json.loads(line)) for line in body.splitlines()]
    except ValueError:
        return body


def compare(urls, method, path, headers=(), body=None, chunked=False, described=False):
    """`described`: the body tells what the app received, so its length may differ too."""
    results = []
    for url in urls:
        connection = connect(url)
        try:
            status, reason, fields, content = exchange(connection, method, path, headers, body() if callable(body) else body, chunked)
        finally:
            connection.close()
        if described:
            fields = [(name, value) for name, value in fields if name != "content-length"]
            content = shown(content)
        results.append((status, reason, fields, content))
    for what, proxied, direct in zip(("status", "reason", "fields", "body"), *results):
        same(proxied, direct, what)
    return results[0]


def httpbin(urls):
    def get(path, *headers, described=False, method="GET", expect=None):
        def test():
            status, _, _, _ = compare(urls, method, path, headers, described=described)
            assert expect is None or status == expect, f"status {status}, {expect} was expected of both"
        check(f"{method} {path}" + "".join(f" [{name}: {value:.40}]" for name, value in headers), test)

    def send(method, path, body, *headers, chunked=False, note=""):
        check(f"{method} {path} {note}", lambda: compare(urls, method, path, headers, body, chunked, described=True))

    for path in ["/html", "/xml", "/robots.txt", "/encoding/utf8", "/image/png", "/json", "/bytes/100000?seed=7",
                 "/stream-bytes/100000?seed=7&chunk_size=1000", "/range/10000", "/links/5/0", "/base64/SGVsbG8%3D"]:
        get(path, expect=200)
    for path in ["/get?a=1&b=%20x%2Fy&c=&a=2", "/anything/a%2Fb", "/anything/%C3%BC?q=%F0%9F%9A%A3", "/headers", "/stream/20",
                 "/anything?" + "x" * 4000]:
        get(path, described=True, expect=200)
    get("/anything//double", expect=308)
    for path in ["/gzip", "/deflate"]:
        check(f"GET {path}", lambda path=path: compressed(urls, path))
    for status in [200, 204, 205, 304, 400, 401, 402, 403, 404, 405, 406, 409, 410, 418, 429, 500, 501, 502, 503, 504]:
        get(f"/status/{status}", expect=status)
    get("/redirect/3", expect=302)
    get("/absolute-redirect/2", expect=302)
    get("/relative-redirect/2", expect=302)
    get("/redirect-to?url=http%3A%2F%2Fother.example%2Fx&status_code=307", expect=307)
    get("/cookies/set?one=1&two=2", expect=302)
    get("/cookies/delete?one", ("Cookie", "one=1; two=2"), expect=302)
    get("/cookies", ("Cookie", "one=1; two=2"), expect=200)
    get("/response-headers?X-Twice=1&X-Twice=2&X-Empty=", expect=200)
    get("/basic-auth/u/p", expect=401)
    get("/basic-auth/u/p", ("Authorization", "Basic dTpw"), expect=200)
    get("/bearer", ("Authorization", "Bearer abc"), expect=200)
    get("/cache", ("If-None-Match", '"x"'), expect=304)
    get("/cache/60", described=True, expect=200)
    get("/etag/abc", ("If-None-Match", '"abc"'), expect=304)
    get("/etag/abc", ("If-Match", '"other"'), expect=412)
    for wanted in ["bytes=0-99", "bytes=9990-", "bytes=-10", "bytes=20000-", "bytes=0-0"]:
        get("/range/10000", ("Range", wanted))
    for path in ["/html", "/bytes/1000?seed=1", "/stream-bytes/1000?seed=1", "/status/404", "/redirect/1"]:
        get(path, method="HEAD")
    get("/get", ("Origin", "http://site.example"), ("Access-Control-Request-Method", "PUT"), method="OPTIONS", expect=200)
    get("/headers", ("X-Long", "y" * 6000), ("X-Empty", ""), ("X-Comma", "a, b,c"), ("X-Latin", "caf\u00e9"), described=True, expect=200)
    get("/headers", ("TE", "trailers"), ("Accept-Language", "de, en;q=0.5"), ("User-Agent", "compare/1"), described=True, expect=200)

    json_type = ("Content-Type", "application/json")
    send("POST", "/post", b'{"a": [1, 2.50, "\xc3\xbc"]}', json_type, note="JSON")
    send("PUT", "/put", b"a=1&b=%20", ("Content-Type", "application/x-www-form-urlencoded"), note="form")
    send("PATCH", "/patch", b"", json_type, note="empty")
    send("DELETE", "/delete", None, note="without a body")
    send("POST", "/post", os.urandom(16).hex().encode() * 32768, ("Content-Type", "text/plain"), note="1 MiB")
    send("POST", "/post", lambda: [b"one ", b"two ", b"three"], ("Content-Type", "text/plain"), chunked=True, note="chunked")
    part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x.bin"\r\nContent-Type: application/octet-stream\r\n\r\n\x00\x01\xff\r\n--b--\r\n'
    send("POST", "/post", part, ("Content-Type", "multipart/form-data; boundary=b"), note="multipart")
    check("50 requests on one connection", lambda: keep_alive(urls))
    check("two requests at once on one connection (pipelined)", lambda: pipelined(urls))
    check("a body comes as it is made", lambda: dripped(urls))
    check("Expect: 100-continue", lambda: continued(urls))
    check("HTTP/1.0", lambda: http_1_0(urls))
    check("40 requests side by side", lambda: side_by_side(urls))


def compressed(urls, path):
    """The app's own compression passes; what it compresses describes the request, so it is compared open."""
    import zlib
    results = []
    for url in urls:
        connection = connect(url)
        status, _, fields, body = exchange(connection, "GET", path, [("Accept-Encoding", "gzip, deflate")])
        connection.close()
        fields = [(name, value) for name, value in fields if name != "content-length"]
        results.append((status, fields, shown(zlib.decompress(body, 47))))
    same(*results, "answer")
    assert any(name == "content-encoding" for name, _ in results[0][1])


def keep_alive(urls):
    results = []
    for url in urls:
        connection = connect(url)
        first = None
        answers = []
        for number in range(50):
            answers.append(exchange(connection, "GET", f"/bytes/{number * 37}?seed={number}"))
            first = first or connection.sock
            assert connection.sock is first, f"the connection was closed after {number} requests"
        connection.close()
        results.append(answers)
    same(*results, "answers")


def raw(url, data, until, timeout=10):
    """Sends bytes; what comes until the test is content or the connection ends."""
    with socket.create_connection(place(url), timeout=timeout) as sock:
        sock.sendall(data)
        got = b""
        while not until(got):
            piece = sock.recv(65536)
            if not piece:
                break
            got += piece
        return got


def pipelined(urls):
    one = f"GET /bytes/100?seed=1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    two = f"GET /bytes/100?seed=2 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
    bodies = []
    for url in urls:
        got = raw(url, one + two, lambda _: False)
        assert got.count(b"HTTP/1.1 200") == 2, got[:200]
        bodies.append([part[:100] for part in got.split(b"\r\n\r\n")[1:]])
    same(*bodies, "bodies")


def dripped(urls):
    for url in urls:
        connection = connect(url)
        connection.request("GET", "/drip?duration=1&numbytes=5&delay=0", headers={"Host": HOST})
        answer = connection.getresponse()
        at = []
        while answer.read(1):
            at.append(time.monotonic())
        connection.close()
        same(len(at), 5, "bytes")
        assert at[-1] - at[0] > 0.6, f"{url}: a body that takes a second came within {at[-1] - at[0]:.2f} s"


def continued(urls):
    results = []
    for url in urls:
        with socket.create_connection(place(url), timeout=10) as sock:
            sock.sendall(f"POST /post HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n"
                         "Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
            first = sock.recv(65536)
            assert first.startswith(b"HTTP/1.1 100"), f"{url}: no 100 before the body: {first[:80]!r}"
            sock.sendall(b"hello")
            rest = first[first.index(b"\r\n\r\n") + 4:]
            while piece := sock.recv(65536):
                rest += piece
        assert b" 200 " in rest.split(b"\r\n")[0], rest[:80]
        assert b'"data": "hello"' in rest, rest[-200:]
        results.append(rest.split(b"\r\n")[0])
    same(*results, "status line")


def http_1_0(urls):
    results = []
    for url in urls:
        got = raw(url, f"GET /stream-bytes/1000?seed=3 HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode(), lambda _: False)
        head, body = got.split(b"\r\n\r\n", 1)
        assert b"chunked" not in head.lower(), "chunks for a client that does not know them"
        results.append((head.split()[1], body))
    same(*results, "answer")


def side_by_side(urls):
    results = []
    for url in urls:
        answers = [None] * 40

        def one(number, url=url, answers=answers):
            connection = connect(url)
            # Not /bytes with a seed: the threads of the app share one generator of random numbers.
            answers[number] = exchange(connection, "GET", f"/range/{1000 + number}")
            connection.close()
        threads = [threading.Thread(target=one, args=(number,)) for number in range(40)]
        [thread.start() for thread in threads]
        [thread.join(30) for thread in threads]
        results.append(answers)
    assert all(results[1])
    same(*results, "answers")


# --- WebSocket (RFC 6455), with y-websocket's protocol inside -----------------------------------

RUN = os.urandom(4).hex()  # rooms live as long as the server


class WebSocket:
    """A client's side of one connection."""

    def __init__(self, url, path, protocol=None):
        self.sock = socket.create_connection(place(url), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        extra = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n".encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        fields = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines[1:]}
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        assert self.status == 101, lines[0]
        same(fields.pop("sec-websocket-accept"), accept, "Sec-WebSocket-Accept")
        same((fields.get("upgrade", "").lower(), fields.get("connection", "").lower()), ("websocket", "upgrade"), "upgrade fields")
        self.fields = sorted((name, value) for name, value in fields.items() if name not in OWN)

    def fill(self):
        piece = self.sock.recv(65536)
        assert piece, "the connection ended"
        self.buffer += piece

    def take(self, count):
        while len(self.buffer) < count:
            self.fill()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def send(self, opcode, data):
        mask = os.urandom(4)
        size = len(data)
        length = struct.pack("!B", 0x80 | size) if size < 126 else struct.pack("!BH", 0xFE, size) if size < 65536 else struct.pack("!BQ", 0xFF, size)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        self.sock.sendall(bytes([0x80 | opcode]) + length + mask + masked)

    def receive(self):
        first, second = self.take(2)
        size = second & 0x7F
        if size == 126:
            size, = struct.unpack("!H", self.take(2))
        elif size == 127:
            size, = struct.unpack("!Q", self.take(8))
        return first & 0x0F, self.take(size)

    def until(self, opcode, start):
        """The first frame of that kind that begins so."""
        while True:
            kind, data = self.receive()
            if kind == opcode and data.startswith(start):
                return data


def varuint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def awareness(client, clock, text):
    """A message that the server gives to everyone in the room, its sender included."""
    state = json.dumps({"text": text}, separators=(",", ":")).encode()  # as the server writes it
    update = varuint(1) + varuint(client) + varuint(clock) + varuint(len(state)) + state
    return varuint(1) + varuint(len(update)) + update


def websocket(urls):
    def handshake():
        fields = []
        for number, url in enumerate(urls):
            ws = WebSocket(url, f"/hand-{RUN}-{number}")
            fields.append(ws.fields)
            ws.sock.close()
        same(*fields, "fields of 101")

    def sync():
        results = []
        for number, url in enumerate(urls):
            ws = WebSocket(url, f"/sync-{RUN}-{number}?token=x%20y")
            first = ws.receive()
            ws.send(2, bytes([0, 0, 1, 0]))
            results.append((first, ws.until(2, bytes([0, 1]))))
            ws.sock.close()
        same(*results, "frames")

    def echo(size):
        def test():
            results = []
            for number, url in enumerate(urls):
                room = f"/echo-{RUN}-{number}-{size}"
                one, two = WebSocket(url, room), WebSocket(url, room)
                message = awareness(7, 1, "x" * size)
                one.send(2, message)
                results.append((one.until(2, b"\x01") == message, two.until(2, b"\x01") == message))
                one.sock.close()
                two.sock.close()
            same(*results, "echoes")
            assert results[0] == (True, True), "what came back is not what was sent"
        return test

    def ping():
        results = []
        for number, url in enumerate(urls):
            ws = WebSocket(url, f"/ping-{RUN}-{number}")
            ws.send(9, b"are you there")
            results.append(ws.until(10, b""))
            ws.sock.close()
        same(*results, "pong")

    def close():
        results = []
        for number, url in enumerate(urls):
            ws = WebSocket(url, f"/close-{RUN}-{number}")
            ws.send(8, struct.pack("!H", 1000) + b"done")
            frame = ws.until(8, b"")
            results.append((frame, ws.buffer + ws.sock.recv(100)))
            ws.sock.close()
        same(*results, "close frame and end")

    def gone():
        """A client that vanishes is seen by the app: the others in the room hear of it."""
        for number, url in enumerate(urls):
            room = f"/gone-{RUN}-{number}"
            stays, leaves = WebSocket(url, room), WebSocket(url, room)
            leaves.send(2, awareness(9, 1, "here"))
            stays.until(2, b"\x01")
            leaves.sock.close()
            assert b"null" in stays.until(2, b"\x01"), "the room was not told"
            stays.sock.close()

    check("WebSocket: handshake", handshake)
    check("WebSocket: first frames and an answer", sync)
    for size in [1, 1000, 70_000]:
        check(f"WebSocket: echo of {size} bytes to two clients", echo(size))
    check("WebSocket: ping", ping)
    check("WebSocket: close", close)
    check("WebSocket: a client that vanishes", gone)
    check("the same server without upgrade", lambda: compare(urls, "GET", "/"))


# --- server-sent events, with the Model Context Protocol inside ---------------------------------

def sse(urls):
    def session(url):
        """Opens the event stream, sends requests beside it, returns what came on it."""
        connection = connect(url)
        connection.request("GET", "/sse", headers={"Host": HOST, "Accept": "text/event-stream"})
        answer = connection.getresponse()
        fields = sorted((name.lower(), value) for name, value in answer.getheaders() if name.lower() not in OWN)

        def event():
            lines = []
            while True:
                line = answer.readline().decode().rstrip("\r\n")
                if not line and lines:
                    return dict(line.split(": ", 1) for line in lines if ": " in line)
                if line:
                    lines.append(line)
                assert line or not answer.isclosed(), "the stream ended"
        endpoint = event()
        same(endpoint["event"], "endpoint", "first event")
        target = endpoint["data"]
        got = []

        def post(message):
            sender = connect(url)
            body = json.dumps({"jsonrpc": "2.0", **message}).encode()
            status, _, _, text = exchange(sender, "POST", target, [("Content-Type", "application/json")], body)
            sender.close()
            got.append((status, text))
        post({"id": 1, "method": "initialize", "params": {
            "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "compare", "version": "1"}}})
        while True:
            reply = json.loads(event()["data"])
            if reply.get("id") == 1:
                break
        got.append(reply)
        post({"method": "notifications/initialized"})
        begun = time.monotonic()
        post({"id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": "over the water"}}})
        while True:
            reply = json.loads(event()["data"])
            if reply.get("id") == 2:
                break
        got.append(reply)
        assert time.monotonic() - begun < 2, "an event was held back"
        connection.close()
        return answer.status, fields, got

    def conversation():
        proxied, direct = (session(url) for url in urls)
        same(proxied, direct, "conversation")
        assert "over the water" in str(proxied)

    check("SSE: a conversation over an event stream", conversation)
    check("the same server without a stream", lambda: compare(urls, "GET", "/nothing"))


def main():
    kinds = {"httpbin": httpbin, "websocket": websocket, "sse": sse}
    if len(sys.argv) != 4 or sys.argv[1] not in kinds:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(kinds)} DIRECT_URL PROXIED_URL")
    direct, proxied = sys.argv[2], sys.argv[3]
    kinds[sys.argv[1]]((proxied, direct))
    finish()


if __name__ == "__main__":
    main()
