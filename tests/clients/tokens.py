"""Tokens as an issuer's library makes them (PyJWT), published as it publishes its keys: which of them the proxy takes, and what the app sees.

run.py starts the proxy; this test is the issuer at ISSUER_PORT and the app at APP_PORT. Prints `N passed, N failed`.
"""

import http.server
import json
import os
import threading
import time
import urllib.error
import urllib.request

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from verdicts import check, finish

INBOUND = os.environ["INBOUND"]
KEYS = {
    "rsa": (rsa.generate_private_key(65537, 2048), RSAAlgorithm, ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
    "p256": (ec.generate_private_key(ec.SECP256R1()), ECAlgorithm, ["ES256"]),
    "p384": (ec.generate_private_key(ec.SECP384R1()), ECAlgorithm, ["ES384"]),
    "ed": (ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm, ["EdDSA"]),
}
LATE = (ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm)
published, asked = dict(KEYS), []


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps(self.said()).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Issuer(Answers):
    def said(self):
        asked.append(self.path)
        return {"keys": [json.loads(kind.to_jwk(key.public_key())) | {"kid": name, "use": "sig"} for name, (key, kind, *_) in published.items()]}


class App(Answers):
    def said(self):
        return {name.lower(): value for name, value in self.headers.items()}


for answers, port in [(Issuer, "ISSUER_PORT"), (App, "APP_PORT")]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ[port])), answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def token(name="ed", alg="EdDSA", **more):
    claims = {"iss": "https://login.example/", "aud": "https://shop.example", "sub": "ann", "exp": int(time.time()) + 300, "scope": "read write"}
    key = LATE[0] if name == "late" else KEYS[name][0]
    return jwt.encode({what: value for what, value in {**claims, **more}.items() if value is not None}, key, algorithm=alg, headers={"kid": name})


def ask(bearer, path="/a"):
    request = urllib.request.Request(INBOUND + path, headers={"authorization": f"Bearer {bearer}"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return answer.status, json.load(answer), {}
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), error.headers


def passes(bearer, path="/a"):
    status, seen, _ = ask(bearer, path)
    assert status == 200, f"{status} {seen}"
    assert seen["x-user"] == "ann" and "authorization" not in seen, seen


def refused(bearer, status, reason, part, path="/a"):
    found, problem, fields = ask(bearer, path)
    assert (found, problem["reason"]) == (status, reason) and part in problem["detail"], f"{found} {problem}"
    assert fields["www-authenticate"].startswith("Bearer "), fields["www-authenticate"]


for name, (_, _, algorithms) in KEYS.items():
    for alg in algorithms:
        check(f"a token in {alg} passes, and the app sees who and not the token", lambda: passes(token(name, alg)))
check("scopes of the token open a route that asks for them", lambda: passes(token(), "/writes"))
check("a token without them is told which", lambda: refused(token(scope="read"), 403, "auth_insufficient", "write", "/writes"))
check("one that has expired is told so", lambda: refused(token(exp=int(time.time()) - 60), 401, "auth_invalid", "exp"))
check("one for another audience", lambda: refused(token(aud=["https://other.example"]), 401, "auth_invalid", "aud"))
check("one of another issuer", lambda: refused(token(iss="https://evil.example/"), 401, "auth_invalid", "iss"))
check("one that does not end", lambda: refused(token(exp=None), 401, "auth_invalid", "exp"))
check("one that nobody signed", lambda: refused(jwt.encode({"sub": "ann"}, None, algorithm="none"), 401, "auth_invalid", "algorithm"))
check("one under another's name", lambda: refused(token("late", "EdDSA"), 401, "auth_invalid", "does not publish"))
check("the issuer was asked once for all of them", lambda: asked == ["/keys"] or (_ for _ in ()).throw(AssertionError(asked)))


def rotates():
    published["late"] = LATE
    time.sleep(31)  # an issuer is asked about unknown keys every 30 s at most
    passes(token("late", "EdDSA"))
    assert len(asked) == 2, asked


check("a new key of the issuer counts as soon as a token names it", rotates)
finish()
