"""Receives what the proxy tells, and checks it with the libraries of those who would receive it.

sink.py [PORT]: an HTTP server and an SMTP server on 127.0.0.1. The first line says their ports. Each further line is one message: its
path, whether it is as it should be, why not, and its body. `/away` answers 503 twice before it takes anything. A path with `allow` or
`refuse` in it answers with that decision.
"""

import http.server
import json
import socket
import sys
import threading

from aiosmtpd.controller import Controller
from slack_sdk.models.blocks import Block
from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
away = {"left": 2}
lock = threading.Lock()


def say(**line):
    with lock:
        print(json.dumps(line), flush=True)


def check(path, headers, body):
    if path.startswith(("/hook", "/away")):
        Webhook(SECRET).verify(body, {name.lower(): value for name, value in headers.items()})
    elif path.startswith("/slack"):
        message = json.loads(body)
        blocks = Block.parse_all(message["blocks"])
        assert len(blocks) == len(message["blocks"]) and message["text"]
        for block in blocks:
            block.validate_json()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        with lock:
            refuse = self.path.startswith("/away") and away["left"] > 0
            away["left"] -= refuse
        if refuse:
            self.send_response(503)
            self.send_header("retry-after", "1")
            self.end_headers()
            return
        why = None
        try:
            check(self.path, self.headers, body)
        except Exception as error:
            why = repr(error)
        decided = [word for word in ("allow", "refuse") if word in self.path]
        answer = json.dumps({"decision": decided[0]}).encode() if decided else b""
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        say(path=self.path, id=self.headers.get("webhook-id"), good=why is None, why=why, body=body.decode())

    def do_GET(self):
        self.send_response(204)
        self.end_headers()
        say(path=self.path, good=True, body="")

    def log_message(self, *_):
        pass


class Mailbox:
    async def handle_DATA(self, server, session, envelope):
        good = envelope.mail_from == "outrigger@example.com" and envelope.rcpt_tos == ["oncall@example.com"]
        say(path="mail", good=good, body=envelope.content.decode())
        return "250 OK"


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
# The controller greets its own port, which it has to know: one that is free now.
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
mail = Controller(Mailbox(), hostname="127.0.0.1", port=port)
mail.start()
say(http=server.server_address[1], smtp=port)
server.serve_forever()
