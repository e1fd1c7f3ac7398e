//! Policies: what a route can name. A policy that is not named does nothing.

use super::{Key, Kind, Table, kinds::*};

static RESPOND_TABLE: Table = Table::new(
    "fallback.respond",
    "A static answer.",
    &[
        Key::new("status", STATUS, "Its status.").default("503"),
        Key::new("body", TEXT, "Its body.").default("\"\"").eg("\"The assistant is resting.\""),
        Key::new("content_type", FIELD, "Its content type.").default("text/plain; charset=utf-8").eg("application/json"),
    ],
);
const RESPOND: Key =
    Key::new("respond", Kind::Table(&RESPOND_TABLE), "A static answer; the last of the list.").eg("{status: 503, body: \"Back soon.\"}");
static INBOUND_FALLBACK: Table =
    Table::new("inbound fallback", "What is answered when the app failed.", &[RESPOND]).exactly_one(&[&["respond"]]).foreign(&[
        ("provider", "providers are for outbound routes; here only `respond` can be written"),
        ("model", "models are for outbound routes; here only `respond` can be written"),
    ]);
static OUTBOUND_FALLBACK: Table = Table::new(
    "outbound fallback",
    "What comes next when a call failed before its first byte went to the app; tried in order.",
    &[
        Key::new("provider", NAME, "A provider of the same API.").eg("openai"),
        Key::new("model", TEXT, "The model to ask instead.").eg("gpt-4o-mini"),
        RESPOND,
    ],
)
.exactly_one(&[&["provider", "respond"]])
.needs(&[("model", "provider")]);
const INBOUND_FALLBACKS: &Kind = &Kind::Table(&INBOUND_FALLBACK);
const OUTBOUND_FALLBACKS: &Kind = &Kind::Table(&OUTBOUND_FALLBACK);
pub(in crate::config) const IN_FALLBACK: Key = Key::new("fallback", Kind::List(INBOUND_FALLBACKS), "What is answered when the app failed.");
pub(in crate::config) const OUT_FALLBACK: Key =
    Key::new("fallback", Kind::List(OUTBOUND_FALLBACKS), "What comes next when the first target failed, in order.");
