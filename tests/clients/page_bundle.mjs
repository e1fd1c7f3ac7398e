// Makes the bundle of the admin door's page out of its parts: page_bundle.mjs FOLDER
//
// The bundle is committed: `cargo build` needs no Node. Its first line names the parts and their hash, by which `cargo test` sees a
// bundle that is behind its source; the test of the page makes it again and compares every byte.

import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { transformSync } from "esbuild";

/** The parts of the script, in their order. They share one scope. */
const SCRIPT = ["base", "feed", "link", "parts", "overview", "flows", "canvas", "about", "money", "errors", "asked", "state", "health", "config", "main"].map((name) => `${name}.js`);
const STYLE = ["style.css"];
// Browsers of the last two years or so.
const TARGET = ["chrome111", "firefox115", "safari16.4"];

/** The files of the bundle and their texts. */
export function bundle(folder) {
  const read = (names) => names.map((name) => fs.readFileSync(path.join(folder, name), "utf8")).join("");
  const made = (names, text) => `/* Made by tests/page.sh of ${names.join(" ")}: ${createHash("sha256").update(read(names)).digest("hex")} */\n${text}`;
  // It runs once, after the head has been painted; a tab in the background paints nothing and does not wait for that.
  const script = `(() => {\n"use strict";\nlet begun = false;\nconst begin = () => {\nif (begun) return;\nbegun = true;\n${read(SCRIPT)}};\nrequestAnimationFrame(() => setTimeout(begin));\nsetTimeout(begin, 400);\n})();\n`;
  const small = (text, loader) => transformSync(text, { loader, minify: true, target: TARGET, charset: "utf8", legalComments: "none" }).code;
  return { "bundle.js": made(SCRIPT, small(script, "js")), "bundle.css": made(STYLE, small(read(STYLE), "css")) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = process.argv[2];
  for (const [name, text] of Object.entries(bundle(folder))) fs.writeFileSync(path.join(folder, name), text);
}
