"""A FastAPI app that calls models with the official SDKs, in each way in which such apps do; it knows nothing of the proxy.

`/told` says what the calls of each `tag` have used, by the SDKs' own figures.
"""

import asyncio
import threading
from collections import defaultdict

import anthropic
import openai
from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()
used = defaultdict(list)
GPT, CLAUDE = "gpt-4o-mini", "claude-sonnet-5"
client, blocking, claude = openai.AsyncOpenAI(max_retries=0), openai.OpenAI(max_retries=0), anthropic.AsyncAnthropic(max_retries=0)


def said(tag):
    return [{"role": "user", "content": f"Say something to {tag}."}]


def chat(tag, answer):
    used[tag].append([GPT, answer.usage.prompt_tokens, answer.usage.completion_tokens])
    return {"said": answer.choices[0].message.content}


async def ask_chat(tag, **more):
    return chat(tag, await client.chat.completions.create(model=GPT, messages=said(tag), **more))


@app.get("/ask")
async def ask(tag: str):
    return await ask_chat(tag)


@app.get("/sync")
def sync(tag: str):
    return chat(tag, blocking.chat.completions.create(model=GPT, messages=said(tag)))


@app.get("/several")
async def several(tag: str):
    return await asyncio.gather(*[ask_chat(tag) for _ in range(3)])


@app.get("/claude")
async def ask_claude(tag: str):
    answer = await claude.messages.create(model=CLAUDE, max_tokens=200, messages=said(tag))
    used[tag].append([CLAUDE, answer.usage.input_tokens, answer.usage.output_tokens])
    return {"said": answer.content[0].text}


@app.get("/stream")
async def stream(tag: str):
    async def words():
        answer = await client.chat.completions.create(model=GPT, messages=said(tag), stream=True, stream_options={"include_usage": True})
        async for chunk in answer:
            if chunk.usage:
                used[tag].append([GPT, chunk.usage.prompt_tokens, chunk.usage.completion_tokens])
            for choice in chunk.choices:
                yield choice.delta.content or ""
    return StreamingResponse(words(), media_type="text/plain")


@app.get("/later")
async def later(tag: str, background: BackgroundTasks):
    background.add_task(ask_chat, tag)
    return {"said": "later"}


@app.get("/thread")
def thread(tag: str):
    one = threading.Thread(target=sync, args=(tag,))
    one.start()
    one.join()
    return {"said": "by a thread"}


@app.get("/copies")
async def copies(tag: str, request: Request):
    """As an app does it that passes the request id on."""
    return await ask_chat(tag, extra_headers={"x-request-id": request.headers["x-request-id"]})


@app.get("/fields")
def fields(request: Request):
    return dict(request.headers)


@app.get("/told")
def told():
    return used
