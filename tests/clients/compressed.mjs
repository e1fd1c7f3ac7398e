// `compress` in front of an app by others: every answer, decoded by Node's own decoders, is byte for byte the app's.
//
// APP is the app itself (httpbin), PROXY the same behind the proxy.

import assert from "node:assert/strict";
import http from "node:http";
import { promisify } from "node:util";
import zlib from "node:zlib";
import { check, finish } from "./verdicts.mjs";

const { APP, PROXY } = process.env;
const DECODE = { gzip: promisify(zlib.gunzip), br: promisify(zlib.brotliDecompress), zstd: promisify(zlib.zstdDecompress) };
const OWN = new Set(["date", "connection", "keep-alive", "transfer-encoding", "via", "x-request-id", "content-length"]);

function ask(base, path, codings, method = "GET") {
  return new Promise((resolve, reject) => {
    const headers = { host: "app.example", ...(codings === null ? {} : { "accept-encoding": codings }) };
    const request = http.request(new URL(path, base), { method, headers, agent: false }, (response) => {
      const pieces = [];
      response.on("data", (piece) => pieces.push(piece));
      response.on("end", () => resolve({ status: response.statusCode, fields: response.headers, body: Buffer.concat(pieces) }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end();
  });
}

const others = (fields) => Object.fromEntries(Object.entries(fields).filter(([name]) => !OWN.has(name) && !["content-encoding", "vary"].includes(name)));

const TEXT = ["/html", "/xml", "/json", "/encoding/utf8"];
const AS_IT_IS = ["/robots.txt", "/bytes/100000?seed=7", "/image/png", "/gzip", "/status/204", "/redirect/3", "/range/10000"];
for (const path of TEXT) {
  for (const coding of Object.keys(DECODE)) {
    await check(`GET ${path} in ${coding}`, async () => {
      const [direct, coded] = [await ask(APP, path, null), await ask(PROXY, path, coding)];
      assert.equal(coded.status, direct.status);
      const gains = direct.body.length >= 1024;
      assert.equal((coded.fields.vary ?? "").includes("accept-encoding"), gains);
      assert.equal(coded.fields["content-encoding"], gains ? coding : undefined);
      const text = gains ? await DECODE[coding](coded.body) : coded.body;
      assert.ok(text.equals(direct.body), "the text is the app's");
      assert.ok(!gains || coded.body.length < direct.body.length);
      assert.deepEqual(others(coded.fields), others(direct.fields));
    });
  }
  await check(`GET ${path} for who accepts nothing`, async () => {
    const [direct, plain] = [await ask(APP, path, null), await ask(PROXY, path, null)];
    assert.ok(plain.body.equals(direct.body) && plain.fields["content-encoding"] === undefined);
  });
}
for (const path of AS_IT_IS) {
  await check(`GET ${path} stays as it is`, async () => {
    const [direct, proxied] = [await ask(APP, path, "gzip"), await ask(PROXY, path, "gzip, br, zstd")];
    assert.equal(proxied.status, direct.status);
    assert.equal(proxied.fields["content-encoding"], direct.fields["content-encoding"]);
    if (path !== "/gzip") assert.ok(proxied.body.equals(direct.body));
    assert.deepEqual(others(proxied.fields), others(direct.fields));
  });
}
await check("fetch decodes by itself", async () => {
  const [direct, proxied] = await Promise.all([APP, PROXY].map(async (base) => (await fetch(new URL("/html", base))).text()));
  assert.equal(proxied, direct);
});
finish();
