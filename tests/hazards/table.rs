//! The table of contents: every hazard by its number, where it is known from, what was decided, and the tests that show it with raw
//! bytes. HTTP/3, which some rows also name elsewhere, is not spoken here.

/// A hazard.
struct Row {
    number: usize,
    hazard: &'static str,
    source: &'static str,
    decision: &'static str,
    /// `file::function` of this directory.
    tests: &'static [&'static str],
}

const fn row(number: usize, hazard: &'static str, source: &'static str, decision: &'static str, tests: &'static [&'static str]) -> Row {
    Row { number, hazard, source, decision, tests }
}

const ROWS: &[Row] = &[
    row(
        1,
        "Content-Length with Transfer-Encoding",
        "RFC 9112 6.3",
        "request: 400 and close; response: Transfer-Encoding counts, the connection is not used again",
        &[
            "requests::what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request",
            "requests::a_flaw_in_a_later_request_is_seen_too",
            "responses::an_answer_is_plain_or_502_or_visibly_cut",
        ],
    ),
    row(
        2,
        "Transfer-Encoding that is not one chunked (TE.TE, xchunked, whitespace)",
        "RFC 9112 6.3; RUSTSEC-2026-0034",
        "400 and close, 501 for another coding before chunked; from a target 502",
        &[
            "requests::what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request",
            "responses::an_answer_is_plain_or_502_or_visibly_cut",
            "trust::what_is_legal_arrives_as_it_was_sent",
        ],
    ),
    row(
        3,
        "Transfer-Encoding in HTTP/1.0; bodies that end with the connection",
        "RFC 9112 6.1",
        "400 and close; a target's answer may end with its connection and is then cut visibly if it breaks",
        &[
            "requests::what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request",
            "responses::an_answer_is_plain_or_502_or_visibly_cut",
        ],
    ),
    row(
        4,
        "Content-Length twice, as a list, signed, hexadecimal, too large",
        "RFC 9112 6.3; CVE-2021-32715",
        "equal ones collapse; anything else 400, from a target 502",
        &[
            "requests::what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request",
            "trust::what_is_legal_arrives_as_it_was_sent",
            "responses::an_answer_is_plain_or_502_or_visibly_cut",
        ],
    ),
    row(
        5,
        "bare LF, bare CR",
        "RFC 9112 2.2",
        "400 at once, also within chunks and trailers; a target's bare LF ends a line of its head (2.2 allows it) and goes on as CRLF, within \
         its chunks the answer is visibly cut; its bare CR 502",
        &[
            "requests::what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request",
            "requests::a_flaw_in_a_later_request_is_seen_too",
            "requests::a_broken_body_is_the_clients_fault",
            "responses::an_answer_is_plain_or_502_or_visibly_cut",
        ],
    ),
    row(
        6,
        "obs-fold, space before the colon, whitespace after the start-line",
        "RFC 9112 2.2, 5.1, 5.2",
        "400; from a target 502",
        &[
            "requests::what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request",
            "responses::an_answer_is_plain_or_502_or_visibly_cut",
        ],
    ),
    row(
        7,
        "chunk extensions, chunk sizes that overflow",
        "RFC 9112 7.1; RUSTSEC-2021-0079",
        "extensions end here, within a bound; sizes are checked; trailers by an allow-list",
        &[
            "requests::a_broken_body_is_the_clients_fault",
            "trust::what_is_legal_arrives_as_it_was_sent",
            "responses::an_answer_is_plain_or_502_or_visibly_cut",
            "exchange::a_large_chunk_that_comes_with_the_end_stays_in_its_framing",
        ],
    ),
    row(
        8,
        "an answer before the request's body was read",
        "CVE-2025-4366",
        "drained or closed; leftovers are never a request",
        &["exchange::leftovers_of_an_unread_body_are_never_a_request", "exchange::the_proxys_own_refusal_needs_no_body"],
    ),
    row(
        9,
        "a tunnel before the 101",
        "CVE-2026-2833; RFC 9931",
        "HTTP until the target's own 101",
        &["exchange::a_tunnel_begins_with_the_101_and_not_before"],
    ),
    row(
        10,
        "h2c smuggling",
        "RFC 9110 7.6.1; Bishop Fox 2020",
        "no Upgrade but websocket passes, HTTP2-Settings never",
        &["exchange::no_other_upgrade_than_websocket_passes"],
    ),
    row(
        11,
        "an upgrade with a body",
        "CVE-2026-58055",
        "400",
        &["requests::what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request"],
    ),
    row(
        12,
        "CONNECT to an HTTP/1 target",
        "GHSA-3ccp-42pg-hgv6",
        "405 and close; over HTTP/2 too",
        &[
            "requests::what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request",
            "http2::what_would_be_injected_into_http1_is_refused",
        ],
    ),
    row(
        13,
        "hop-by-hop fields, and those that Connection names",
        "RFC 9110 7.6.1",
        "removed, both ways",
        &[
            "trust::what_is_legal_arrives_as_it_was_sent",
            "responses::an_answer_is_plain_or_502_or_visibly_cut",
            "http2::a_response_is_passed_with_its_trailers_and_without_what_belongs_to_http1",
        ],
    ),
    row(
        14,
        "Connection that names what a proxy adds",
        "CVE-2024-45410; CVE-2021-32813",
        "removed before anything is added",
        &["trust::what_is_legal_arrives_as_it_was_sent"],
    ),
    row(
        15,
        "injection from HTTP/2 into HTTP/1",
        "RFC 9113 8.2.1, 8.3.1",
        "the stream is refused; a length that is not the data's never ends well",
        &[
            "http2::what_would_be_injected_into_http1_is_refused",
            "http2::a_body_that_differs_from_its_length_is_never_complete",
            "http2::a_request_becomes_an_ordinary_one",
        ],
    ),
    row(
        16,
        "decoding before writing",
        "RFC 9112 11.1",
        "nothing is decoded into a head",
        &["trust::what_is_legal_arrives_as_it_was_sent", "responses::an_answer_is_plain_or_502_or_visibly_cut"],
    ),
    row(
        17,
        "desync with a target in general",
        "http1mustdie.com",
        "what follows an answer ends its connection",
        &["responses::what_follows_an_answer_is_never_another_ones_answer"],
    ),
    row(
        18,
        "absolute-form, user information, other schemes",
        "RFC 9112 3.2.2",
        "the target's authority is the host; targets come from the configuration alone",
        &["trust::what_is_legal_arrives_as_it_was_sent", "requests::what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request"],
    ),
    row(
        19,
        "no Host, several, a malformed one, one that differs from :authority",
        "RFC 9112 3.2",
        "400",
        &[
            "requests::what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request",
            "http2::what_would_be_injected_into_http1_is_refused",
        ],
    ),
    row(
        20,
        "paths that servers read differently",
        "RFC 3986 5.2.4; Traefik sanitizePath, encodedCharacters",
        "matched, keyed and forwarded as sent; 400 where another reading would be another route, or with strict_paths",
        &[
            "requests::what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request",
            "strict::what_servers_read_differently_passes_as_it_was_sent",
            "strict::strict_paths_refuses_what_servers_read_differently",
            "caching::a_name_that_looks_static_is_no_reason_to_keep_an_answer",
        ],
    ),
    row(
        21,
        "underscores in field names, and whatever else CGI, WSGI and PHP take for one",
        "Envoy headers_with_underscores_action; Traefik underscoreHeadersStrategy",
        "aliases of framing fields always 400, of what is ours or trusted always removed (trailers too), others 400 with strict_headers",
        &[
            "trust::what_is_legal_arrives_as_it_was_sent",
            "trust::a_caller_header_is_believed_from_nobody_else_and_in_one_spelling",
            "trust::trailers_claim_nothing",
            "strict::aliases_of_framing_fields_are_always_refused",
            "strict::what_servers_read_differently_passes_as_it_was_sent",
            "strict::strict_headers_refuses_what_servers_read_differently",
        ],
    ),
    row(
        22,
        "cache keys",
        "CVE-2026-2836 (RUSTSEC-2026-0035)",
        "host, port, path, query and Vary; no field of a stranger that is in no key reaches the origin",
        &["caching::a_key_is_the_whole_request_target_and_host"],
    ),
    row(
        23,
        "query order, parameter cloaking, fat GET",
        "web cache poisoning",
        "the raw query is the key; GET with a body has no part in the cache",
        &["caching::queries_are_keys_as_they_are_and_a_get_with_a_body_is_no_key", "trust::what_is_legal_arrives_as_it_was_sent"],
    ),
    row(
        24,
        "web cache deception",
        "RFC 9111 3, 3.5",
        "by what the origin says, never by a name; a forced lifetime keeps nothing that is for one",
        &["caching::a_forced_lifetime_keeps_nothing_that_is_for_one", "caching::a_name_that_looks_static_is_no_reason_to_keep_an_answer"],
    ),
    row(
        25,
        "Authorization, Vary: *, no-store, private, must-understand",
        "RFC 9111 3, 4.1",
        "not kept; must-understand lets a known status be kept",
        &["caching::what_the_origin_forbids_is_not_kept", "caching::a_forced_lifetime_keeps_nothing_that_is_for_one"],
    ),
    row(
        26,
        "unsafe methods",
        "RFC 9111 4.4",
        "a success makes invalid its target and a Location of the same origin",
        &["caching::a_change_makes_invalid_what_it_changes_and_nothing_else"],
    ),
    row(
        27,
        "framing of 304, HEAD, 204, 1xx",
        "RFC 9112 6.3",
        "no body, whatever the fields say; a 304 only for the client's own validator",
        &["responses::an_answer_is_plain_or_502_or_visibly_cut", "caching::a_304_is_said_to_those_who_asked_for_it"],
    ),
    row(
        28,
        "1xx",
        "RFC 9110 15.2",
        "passed on over HTTP/1.1, never kept, never merged",
        &[
            "responses::a_1xx_is_passed_on_and_is_never_the_answer",
            "responses::an_early_hint_arrives_before_the_answer_is_there",
            "http2::a_response_is_passed_with_its_trailers_and_without_what_belongs_to_http1",
        ],
    ),
    row(
        29,
        "Expect: 100-continue",
        "RFC 9110 10.1.1",
        "the target's head is asked first, or a final answer is given at once",
        &["exchange::the_origin_is_asked_before_the_client_is_told_to_go_on", "exchange::the_proxys_own_refusal_needs_no_body"],
    ),
    row(
        30,
        "an answer while the body is being sent",
        "RFC 9112 9.5",
        "passed on at once; the upload ends, the connection is not used again",
        &["exchange::an_early_answer_is_passed_on_at_once_and_ends_the_upload"],
    ),
    row(
        31,
        "a client that leaves",
        "pingora 0.7, 0.8",
        "its request ends at the target, promptly; half-closing counts as leaving",
        &[
            "exchange::a_client_that_leaves_takes_its_request_along",
            "exchange::a_client_that_half_closes_is_one_that_leaves",
            "exchange::an_upload_that_breaks_off_after_its_answer_has_begun_is_broken_off_at_the_origin",
        ],
    ),
    row(
        32,
        "rapid reset",
        "CVE-2023-44487",
        "100 streams; whoever takes back more than it lets be answered is ended",
        &["http2::floods_end_the_connection"],
    ),
    row(
        33,
        "MadeYouReset",
        "CVE-2025-8671",
        "resets of our own are bounded, then the connection ends",
        &["http2::floods_end_the_connection"],
    ),
    row(
        34,
        "CONTINUATION flood, HPACK bomb",
        "RUSTSEC-2024-0332",
        "a header list is no larger than max_head; the connection ends",
        &["http2::floods_end_the_connection"],
    ),
    row(
        35,
        "resets that queue behind a closed window",
        "RUSTSEC-2024-0003",
        "streams that were reset leave nothing behind",
        &["http2::streams_that_are_reset_behind_a_closed_window_are_forgotten"],
    ),
    row(
        36,
        "slowloris, slow bodies, slow readers",
        "Envoy timeouts; GHSA-4vwx-54mw-vqfw",
        "header_read, body_idle, write stall, min_rate, connections per address",
        &[
            "bounds::a_slow_head_and_a_slow_body_are_ended",
            "bounds::a_body_that_trickles_is_ended_and_grpc_may_wait",
            "bounds::a_slow_reader_holds_back_the_origin_and_not_memory",
            "bounds::a_reader_behind_the_least_rate_is_ended_long_before_it_is_idle_for_too_long",
            "bounds::one_address_cannot_take_the_whole_house",
            "bounds::a_head_that_never_ends_is_no_memory",
        ],
    ),
    row(
        37,
        "heads beyond bounds",
        "pingora MAX_HEADER_SIZE",
        "431 or 414; from a target 502",
        &[
            "bounds::a_head_is_bounded_in_bytes_fields_and_target",
            "bounds::a_head_that_never_ends_is_no_memory",
            "faults::a_head_without_end_from_a_target_is_502",
        ],
    ),
    row(38, "decompression bombs", "own", "coded bodies pass as they are", &["responses::an_answer_is_plain_or_502_or_visibly_cut"]),
    row(
        39,
        "X-Forwarded-For and its kin",
        "Envoy headers.rst; CVE-2024-52003",
        "believed from trusted_proxies alone, from the right; all others are removed",
        &["trust::a_trusted_peer_is_believed_from_the_right", "trust::what_is_legal_arrives_as_it_was_sent"],
    ),
    row(
        40,
        "loops, Max-Forwards, TRACE",
        "RFC 9110 7.6.2, 7.6.3",
        "508 by our own name in Via; Max-Forwards counts down; TRACE 405",
        &[
            "trust::a_request_that_comes_back_is_a_loop",
            "trust::the_last_forward_is_answered_here",
            "requests::what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request",
        ],
    ),
    row(
        41,
        "trailers",
        "RFC 9110 6.5.1",
        "never fields of a head; forwarded where TE or gRPC asks",
        &[
            "responses::trailers_pass_where_they_are_wanted_and_are_never_fields",
            "http2::a_response_is_passed_with_its_trailers_and_without_what_belongs_to_http1",
        ],
    ),
    row(
        42,
        "replays of what is not idempotent",
        "RFC 9110 9.2.2",
        "only what may be repeated is sent again",
        &["exchange::only_what_may_be_repeated_is_sent_again"],
    ),
    row(
        43,
        "connections shared between identities",
        "pingora pooling.md; HAProxy http-reuse",
        "one pool for each target",
        &["responses::a_connection_serves_one_target_only"],
    ),
];

const FILES: &[(&str, &str)] = &[
    ("bounds", include_str!("bounds.rs")),
    ("caching", include_str!("caching.rs")),
    ("exchange", include_str!("exchange.rs")),
    ("faults", include_str!("faults.rs")),
    ("http2", include_str!("http2.rs")),
    ("requests", include_str!("requests.rs")),
    ("responses", include_str!("responses.rs")),
    ("strict", include_str!("strict.rs")),
    ("trust", include_str!("trust.rs")),
];

#[test]
fn every_hazard_has_its_row_and_every_row_its_tests() {
    let numbers: Vec<usize> = ROWS.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=43).collect::<Vec<_>>());
    for row in ROWS {
        assert!(![row.hazard, row.source, row.decision].contains(&"") && !row.tests.is_empty(), "{}", row.number);
        for test in row.tests {
            let (file, function) = test.split_once("::").expect("file::function");
            let (_, text) = FILES.iter().find(|(name, _)| *name == file).unwrap_or_else(|| panic!("{}: no file {file}", row.number));
            assert!(text.contains(&format!("#[test]\nfn {function}() {{")), "{}: {test} is no test", row.number);
            // A test says which rows it is for: in a comment, or row by row in its table.
            let mark = row.number.to_string();
            let says = text.split(|c: char| !c.is_ascii_digit()).any(|number| number == mark);
            assert!(says, "{}: {file}.rs does not name the row", row.number);
        }
    }
}
