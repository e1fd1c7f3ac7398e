"""A small app that calls a model for every question; it knows nothing of the proxy but its base URL."""

import os

import flask
import requests

app = flask.Flask(__name__)


@app.get("/ask")
def ask():
    answer = requests.post(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions", timeout=20, headers={"authorization": "Bearer sk-test"},
        json={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": flask.request.args["q"]}]})
    answer.raise_for_status()
    return {"said": answer.json()["choices"][0]["message"]["content"]}
