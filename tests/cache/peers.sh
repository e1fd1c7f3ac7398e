#!/usr/bin/env bash
# The cache's model against this proxy, nginx and Varnish in one run: tests/cache/peers.sh [BINARY]
#
# What it proves: the same random sequences of requests (codings, languages, weak and strong tags, HEAD, ranges, real time and
# answers that are born old), in front of the same app, give each client of the proxy bytes that it accepts and that some answer of the
# app's had, fresh enough. What each of the three got wrong is printed by kind; it ends badly only for this proxy's.
#
# Installs nginx-light and varnish (Debian) where they are missing. BINARY is the proxy, by default the one that cargo builds.
# SEQUENCES is how many, by default 200; EXAMPLES=1 prints one of each kind. Takes about a minute after the build.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -z "${1:-}" ] || OUTRIGGER=$(realpath "$1")
[ -z "${OUTRIGGER:-}" ] || export OUTRIGGER
tests/tools.sh peers
"$(command -v nginx || echo /usr/sbin/nginx)" -v 2>&1
"$(command -v varnishd || echo /usr/sbin/varnishd)" -V 2>&1 | head -n 1
exec cargo test --locked --test cache -- --ignored --exact --nocapture peers::the_same_sequences_through_this_proxy_nginx_and_varnish < /dev/null
