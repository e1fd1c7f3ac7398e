"""Receives what the proxy tells, and checks it with the libraries of those who would receive it.

sink.py [PORT]: an HTTP server and an SMTP server on 127.0.0.1. The first line says their ports. Each further line is one message: its
path, whether it is as it should be, why not, and its body. `/away` answers 503 twice before it takes anything, `/fail/429/...` answers
that status once. A path with `allow` or `refuse` in it answers with that decision.

SINK_CERT and SINK_KEY: a second mail server, which wants STARTTLS and the login `pager`, `s3cret`.
"""

import http.server
import json
import os
import socket
import ssl
import sys
import threading

import vendors
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from slack_sdk.models.blocks import Block
from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
away = {"left": 2}
failed = set()
lock = threading.Lock()


def say(**line):
    with lock:
        print(json.dumps(line), flush=True)


def check(path, headers, body):
    """The status of a message that is as it should be."""
    if path.startswith(("/hook", "/away")):
        Webhook(SECRET).verify(body, {name.lower(): value for name, value in headers.items()})
    elif path.startswith("/slack"):
        message = json.loads(body)
        blocks = Block.parse_all(message["blocks"])
        assert len(blocks) == len(message["blocks"]) and message["text"]
        for block in blocks:
            block.validate_json()
    elif path.startswith(("/teams", "/discord", "/pagerduty")):
        assert headers["content-type"] == "application/json", headers["content-type"]
        return getattr(vendors, path.split("/")[1])(body)
    return 200


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path
        with lock:
            refuse = 503 if path.startswith("/away") and away["left"] > 0 else 0
            away["left"] -= refuse == 503
            if path.startswith("/fail/"):
                _, _, status, rest = path.split("/", 3)
                refuse = 0 if path in failed else int(status)
                failed.add(path)
                path = "/" + rest
        if refuse:
            return self.answer(refuse, retry_after="1")
        why, status = None, 400
        try:
            status = check(path, self.headers, body)
        except Exception as error:
            why = repr(error)
        decided = [word for word in ("allow", "refuse") if word in path]
        self.answer(status, json.dumps({"decision": decided[0]}).encode() if decided else b"")
        say(path=path, id=self.headers.get("webhook-id"), good=why is None, why=why, body=body.decode())

    def do_GET(self):
        self.answer(204)
        say(path=self.path, good=True, body="")

    def answer(self, status, body=b"", retry_after=None):
        self.send_response(status)
        if retry_after:
            self.send_header("retry-after", retry_after)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Mailbox:
    def __init__(self, path):
        self.path = path

    async def handle_DATA(self, server, session, envelope):
        good = envelope.mail_from == "outrigger@example.com" and envelope.rcpt_tos == ["oncall@example.com"]
        if self.path == "secure":
            good = good and session.ssl is not None and session.authenticated
        say(path=self.path, good=good, body=envelope.content.decode())
        return "250 OK"


def login(server, session, envelope, mechanism, data):
    good = session.ssl is not None and (data.login, data.password) == (b"pager", b"s3cret")
    say(path="login", good=session.ssl is not None, body=data.login.decode())
    return AuthResult(success=good, handled=False)


def mail(path, **more):
    # The controller greets its own port, which it has to know: one that is free now.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    Controller(Mailbox(path), hostname="127.0.0.1", port=port, **more).start()
    return port


def secure():
    if "SINK_CERT" not in os.environ:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["SINK_CERT"], os.environ["SINK_KEY"])
    return mail("secure", tls_context=context, require_starttls=True, auth_required=True, authenticator=login)


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
say(http=server.server_address[1], smtp=mail("mail"), secure=secure())
server.serve_forever()
