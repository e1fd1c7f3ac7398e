"""A scripted provider of what `outrigger mock` does not have: Realtime, Responses over WebSocket, and batches.

Prints two ports: of the WebSockets (permessage-deflate, as the library agrees on it), and of HTTP. Each response and each line of results
has used 1,000 tokens of input and 500 of output.
"""

import asyncio
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from websockets.asyncio.server import serve

REALTIME = {"total_tokens": 1500, "input_tokens": 1000, "output_tokens": 500,
            "input_token_details": {"text_tokens": 1000, "audio_tokens": 0, "cached_tokens": 0},
            "output_token_details": {"text_tokens": 500, "audio_tokens": 0}}
RESPONSES = {"total_tokens": 1500, "input_tokens": 1000, "output_tokens": 500, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
             "output_tokens_details": {"reasoning_tokens": 0}}


async def session(socket):
    async def say(**event):
        await socket.send(json.dumps(event))
    realtime = "realtime" in socket.request.path
    if realtime:
        await say(type="session.created", event_id="e", session={"type": "realtime", "object": "realtime.session", "id": "s", "model": "gpt-realtime"})
    async for message in socket:
        asked = json.loads(message)
        if asked["type"] != "response.create":
            continue
        if realtime:
            await say(type="response.created", event_id="e", response={"object": "realtime.response", "id": "r", "status": "in_progress"})
            for _ in range(5):
                await say(type="response.output_text.delta", event_id="e", response_id="r", item_id="i", output_index=0, content_index=0, delta="hello ")
            await say(type="response.done", event_id="e", response={"object": "realtime.response", "id": "r", "status": "completed", "output": [], "usage": REALTIME})
        else:
            base = {"id": "resp_1", "object": "response", "created_at": 1, "model": asked["model"], "output": [], "parallel_tool_calls": True,
                    "tool_choice": "auto", "tools": []}
            await say(type="response.created", sequence_number=0, response={**base, "status": "in_progress"})
            for number in range(5):
                await say(type="response.output_text.delta", sequence_number=number + 1, item_id="i", output_index=0, content_index=0, delta="hello ", logprobs=[])
            await say(type="response.completed", sequence_number=9, response={**base, "status": "completed", "usage": RESPONSES})


def openai_line(name):
    body = {"id": "c", "object": "chat.completion", "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}}
    return json.dumps({"id": name, "custom_id": name, "response": {"status_code": 200, "request_id": "q", "body": body}, "error": None})


def anthropic_line(name, kind):
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude-opus-5", "content": [{"type": "text", "text": "x"}],
               "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1000, "output_tokens": 500, "service_tier": "batch"}}
    return json.dumps({"custom_id": name, "result": {"type": kind, **({"message": message} if kind == "succeeded" else {})}})


class Batches(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    polls = 0

    def log_message(self, *_):
        pass

    def say(self, body):
        body = gzip.compress(body.encode() if isinstance(body, str) else json.dumps(body).encode())
        self.send_response(200)
        for name, value in {"content-type": "application/json", "content-encoding": "gzip", "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def openai(self, status, **more):
        return {"id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "completion_window": "24h", "created_at": 1,
                "input_file_id": "file-1", "status": status, **more}

    def anthropic(self, status, done):
        counts = {"processing": 0, "succeeded": done, "errored": 0, "canceled": 0, "expired": 0}
        return {"id": "msgbatch_1", "type": "message_batch", "processing_status": status, "request_counts": counts, "created_at": "2026-11-30T00:00:00Z",
                "expires_at": "2026-12-01T00:00:00Z", "ended_at": None, "archived_at": None, "cancel_initiated_at": None,
                "results_url": f"http://{self.headers['x-proxy']}/batches/v1/messages/batches/msgbatch_1/results" if done else None}

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.endswith("/files"):
            self.say({"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "b.jsonl", "purpose": "batch", "status": "processed"})
        else:
            self.say(self.anthropic("in_progress", 0) if "messages" in self.path else self.openai("validating"))

    def do_GET(self):
        if self.path.endswith("/results"):
            self.say("\n".join([anthropic_line("a", "succeeded"), anthropic_line("b", "succeeded"), anthropic_line("c", "expired")]) + "\n")
        elif self.path.endswith("/content"):
            self.say("\n".join([openai_line("a"), openai_line("b")]) + "\n")
        elif "messages" in self.path:
            self.say(self.anthropic("ended", 2))
        else:
            Batches.polls += 1
            done = {"output_file_id": "file-2", "request_counts": {"completed": 2, "failed": 0, "total": 2}}
            self.say(self.openai("in_progress") if Batches.polls == 1 else self.openai("completed", **done))


async def main():
    http = ThreadingHTTPServer(("127.0.0.1", 0), Batches)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    async with serve(session, "127.0.0.1", 0) as sockets:
        print(sockets.sockets[0].getsockname()[1], http.server_address[1], flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
