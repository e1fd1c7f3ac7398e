"""The proxies of the load bench: how each is configured, started, found and ended.

Every peer runs with one worker on the core it is given, writes an access log to /dev/null, has one rate limit that never
refuses, and offers three places: `pass` (everything to the origin), `cache` (answers kept), `events` (unbuffered).
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def text_of(command):
    """What a command prints, on either stream; empty where it fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
        return done.stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return ""


def found(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class Place:
    """Where a scenario is asked: a port and a path."""

    def __init__(self, port, path):
        self.port, self.path = port, path


class Peer:
    """One running proxy, or none (`direct`)."""

    name = "direct"
    caches = False

    def __init__(self, work, core, origin):
        self.work, self.core, self.origin, self.process = os.path.join(work, self.name), core, origin, None
        os.makedirs(self.work, exist_ok=True)

    @classmethod
    def missing(cls):
        """Why it cannot run, or None."""
        return None

    def version(self):
        return ""

    def start(self):
        pass

    def place(self, kind):
        path = {"pass": "/1k", "pass64": "/64k", "cache": "/cached/1k", "cache64": "/cached/64k"}.get(kind, "/openai/v1/chat/completions")
        return Place(self.origin, path)

    def spawn(self, command, environment=None):
        """On its core, quiet, and remembered: only what was started here is ever ended."""
        with open(os.path.join(self.work, "errors.log"), "ab") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(self.core), *command],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, cwd=self.work,
                env={**os.environ, **(environment or {})})

    def last_words(self):
        with open(os.path.join(self.work, "errors.log"), encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:]

    def wait(self, port):
        for _ in range(100):
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended at start:\n{self.last_words()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not listen on {port}:\n{self.last_words()}")

    def pids(self):
        """The process and its descendants."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat", encoding="utf-8") as stat:
                        parents[int(entry)] = int(stat.read().rsplit(")", 1)[1].split()[1])
                except OSError:
                    pass
        family = {self.process.pid} if self.process else set()
        grown = True
        while grown:
            more = {pid for pid, parent in parents.items() if parent in family} - family
            family |= more
            grown = bool(more)
        return family

    def cpu(self):
        """Seconds of user and system time so far."""
        ticks = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
                    ticks += int(fields[11]) + int(fields[12])
            except OSError:
                pass
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident(self):
        """Resident memory in MiB, shared pages counted once per process."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/status", encoding="utf-8") as status:
                    total += int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))
            except (OSError, AttributeError):
                pass
        return total / 1024

    def warm(self, kind):
        """Fills the cache and makes sure that what is measured is a hit."""
        place = self.place(kind)
        heads = ""
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{place.port}{place.path}", timeout=5) as answer:
                answer.read()
                heads = str(answer.headers).lower()
        if not re.search(r"x-cache: hit|x-varnish: \d+ \d+|cache-status: .*; *hit", heads):
            raise RuntimeError(f"{self.name}: {place.path} is not answered from the cache:\n{heads}")

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Nginx(Peer):
    name, caches = "nginx", True

    @classmethod
    def missing(cls):
        return None if found("nginx") else "nginx is not installed (benches/load/run --install)"

    def version(self):
        return text_of([found("nginx"), "-v"]).strip().rpartition("/")[2]

    def start(self):
        self.port = free_port()
        user = "user root;" if os.getuid() == 0 else ""
        config = os.path.join(self.work, "nginx.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"""
daemon off; worker_processes 1; {user} pid {self.work}/pid; error_log {self.work}/errors.log error;
events {{ worker_connections 8192; }}
http {{
  access_log /dev/null combined;
  keepalive_timeout 300s; keepalive_requests 1000000000; tcp_nodelay on; sendfile on;
  client_body_temp_path {self.work}/body; proxy_temp_path {self.work}/temp; fastcgi_temp_path {self.work}/f;
  uwsgi_temp_path {self.work}/u; scgi_temp_path {self.work}/s;
  limit_req_zone $binary_remote_addr zone=one:1m rate=10000000r/s;
  proxy_cache_path {self.work}/cache keys_zone=kept:8m max_size=64m;
  upstream origin {{ server 127.0.0.1:{self.origin}; keepalive 1100; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{self.port} reuseport backlog=4096;
    limit_req zone=one burst=1000000 nodelay;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    location / {{ proxy_pass http://origin; }}
    location /cached/ {{ proxy_pass http://origin; proxy_cache kept; proxy_cache_valid 200 10m; add_header X-Cache $upstream_cache_status; }}
    location /openai/ {{ proxy_pass http://origin; proxy_buffering off; proxy_read_timeout 1h; }}
    location = /metrics {{ stub_status; }}
  }}
}}
""")
        self.spawn([found("nginx"), "-c", config, "-p", self.work, "-e", f"{self.work}/errors.log"])
        self.wait(self.port)

    def place(self, kind):
        return Place(self.port, super().place(kind).path)


class Haproxy(Peer):
    name, caches = "haproxy", True

    @classmethod
    def missing(cls):
        return None if found("haproxy") else "haproxy is not installed (benches/load/run --install)"

    def version(self):
        return (re.search(r"version (\S+)", text_of([found("haproxy"), "-v"])) or [None, "?"])[1]

    def start(self):
        self.port = free_port()
        config = os.path.join(self.work, "haproxy.cfg")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"""
global
  nbthread 1
  maxconn 8192
  log stdout format raw local0 info
defaults
  mode http
  log global
  option httplog
  option http-keep-alive
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
cache kept
  total-max-size 64
  max-object-size 131072
  max-age 600
backend counted
  stick-table type ip size 100k expire 2m store http_req_rate(1m)
frontend door
  bind 127.0.0.1:{self.port}
  option forwardfor
  http-request track-sc0 src table counted
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 2000000000 }}
  use_backend keeping if {{ path_beg /cached/ }}
  default_backend passing
backend passing
  server origin 127.0.0.1:{self.origin} pool-max-conn 1100
backend keeping
  http-request cache-use kept
  http-response cache-store kept
  http-after-response set-header X-Cache HIT if {{ res.cache_hit }}
  server origin 127.0.0.1:{self.origin}
""")
        self.spawn([found("haproxy"), "-db", "-f", config])
        self.wait(self.port)

    def place(self, kind):
        return Place(self.port, super().place(kind).path)


class Varnish(Peer):
    name, caches = "varnish", True

    @classmethod
    def missing(cls):
        return None if found("varnishd") else "varnish is not installed (benches/load/run --install)"

    def version(self):
        return (re.search(r"varnish-(\S+)", text_of([found("varnishd"), "-V"])) or [None, "?"])[1]

    def start(self):
        self.port = free_port()
        self.spawn([found("varnishd"), "-F", "-j", "none", "-n", os.path.join(self.work, "state"), "-a", f"127.0.0.1:{self.port}",
                    "-b", f"127.0.0.1:{self.origin}", "-s", "malloc,64m", "-p", "thread_pools=1", "-p", "thread_pool_max=1000"])
        self.wait(self.port)

    def place(self, kind):
        return Place(self.port, super().place(kind).path)


class Outrigger(Peer):
    name, caches = "outrigger", True
    binary = "target/release/outrigger"

    @classmethod
    def missing(cls):
        return None if os.access(cls.binary, os.X_OK) else f"{cls.binary} is missing: cargo build --release, or --binary PATH"

    def version(self):
        return text_of([self.binary, "--version"]).strip().rpartition(" ")[2]

    def start(self):
        self.inbound, self.outbound, admin, self.probes = (free_port() for _ in range(4))
        config = os.path.join(self.work, "proxy.yaml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"""
workers: 1
inbound:
  listen: 127.0.0.1:{self.inbound}
  app: http://127.0.0.1:{self.origin}
  {self.limits()}
  routes:
    - {{name: kept, match: {{path: /cached/**}}, cache: {{ttl: 10m}}}}
outbound:
  listen: 127.0.0.1:{self.outbound}
  providers:
    openai: {{url: "http://127.0.0.1:{self.origin}"}}
  limits:
    - {{name: money, key: provider, usd: 1000000, window: 1d}}
admin: {{listen: 127.0.0.1:{admin}, probes: 127.0.0.1:{self.probes}}}
store: {{{self.store()}}}
telemetry: {{log: json}}
""")
        self.spawn([self.binary, "run", "--config", config])
        self.wait(self.inbound)
        self.wait(self.outbound)

    def store(self):
        return "memory: 64MiB"

    def limits(self):
        return "limits: [{name: one, key: client_ip, requests: 2000000000, window: 1m}]"

    def place(self, kind):
        return Place(self.outbound if kind in ("chat", "events") else self.inbound, super().place(kind).path)


class Redis(Peer):
    """The store of the next ones; shares the core of the origin and the load."""

    name = "redis"

    @classmethod
    def missing(cls):
        return None if found("redis-server") else "redis-server is not installed (tests/tools.sh)"

    def start(self):
        self.port = free_port()
        self.spawn([found("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                    "--dir", self.work])
        self.wait(self.port)


class OutriggerRedis(Outrigger):
    """With Redis on: every request is counted there by the limit; what is cached is found in memory."""

    name = "outrigger+redis"
    memory = "64MiB"

    @classmethod
    def missing(cls):
        return super().missing() or Redis.missing()

    def start(self):
        self.redis = Redis(self.work, max(os.sched_getaffinity(0)), self.origin)
        self.redis.start()
        super().start()

    def store(self):
        return f'memory: {self.memory}, redis: "redis://127.0.0.1:{self.redis.port}", namespace: bench'

    def stop(self):
        super().stop()
        self.redis.stop()


class OutriggerCold(OutriggerRedis):
    """What is cached is found in Redis: there is far more of it than fits into memory."""

    name, memory = "outrigger+redis tier", "1MiB"

    def limits(self):
        return ""  # the look-up alone

    def place(self, kind):
        place = super().place(kind)
        return Place(place.port, place.path.replace("/cached/", "/cached/#/"))

    def warm(self, kind):
        """The bench has filled it; whether Redis answers is asked of the proxy's own numbers."""
        place, known = self.place(kind), self.hits()
        for number in range(50):
            url = f"http://127.0.0.1:{place.port}{place.path.replace('#', f'{number * 97:08}')}"
            # The name the load asks for; another is another key.
            urllib.request.urlopen(urllib.request.Request(url, headers={"Host": "localhost"}), timeout=5).close()
        if self.hits() < known + 40:
            raise RuntimeError(f"{self.name}: {place.path} is not answered from Redis")

    def hits(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.probes}/metrics", timeout=5) as answer:
            return float((re.search(r'outrigger_cache_store_total{event="hit"} (\S+)', answer.read().decode()) or [0, 0])[1])


class OutriggerStored(OutriggerRedis):
    """As `outrigger`, with Redis on and nothing counted in it: the price of Redis being there."""

    name = "outrigger+store"

    def limits(self):
        return ""


PEERS = [Peer, Nginx, Haproxy, Varnish, Outrigger, OutriggerStored, OutriggerRedis, OutriggerCold]
