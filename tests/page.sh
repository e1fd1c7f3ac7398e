#!/usr/bin/env bash
# Makes the bundle of the admin door's page (src/admin/page/bundle.js and .css) out of its parts: tests/page.sh
#
# To be run after a change of a part. `cargo build` takes the bundle as it is committed and needs none of this.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${OUTRIGGER_TOOLS:-$PWD/target/tools}
tests/tools.sh
cp tests/clients/page_bundle.mjs "$tools/node/" # Node looks for packages beside the file
node "$tools/node/page_bundle.mjs" src/admin/page
