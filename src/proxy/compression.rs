//! The policy `compress` on the way: the last change of an answer, after its dress and before its bytes are counted.

use http::{Method, StatusCode};

use super::exchange::Exchange;
use crate::{
    body::{
        Body,
        coding::Coding,
        encode::{self, Encoded, KeepWhole},
    },
    config::{AnswerCoding, Mode},
    http1::Id,
    message::AnswerHead,
    policy::compress,
    pressure::Level,
};

/// Bytes that are coded at once; a larger answer is coded slice by slice while it is sent.
const AT_ONCE: usize = 32 * 1024;
/// Encoders at work in the process, most of them less than a mebibyte. An answer beyond goes out as it is.
const MOST: i64 = 64;

/// The answer as the client gets it.
pub fn apply(exchange: &Exchange, head: &mut AnswerHead, body: Body) -> Body {
    let ask = &*exchange.ask;
    let Some(policy) = ask.route().and_then(|route| route.policies.compress.as_ref()) else { return body };
    let enforces = policy.mode == Mode::Enforce;
    if head.status == StatusCode::NOT_MODIFIED && enforces {
        // It speaks of an answer that varies; which one, its head does not say.
        compress::vary(&mut head.headers);
    }
    let is_head = ask.arrival.method == Method::HEAD;
    let announced = || head.headers.text(Id::ContentLength).and_then(|length| length.parse().ok());
    let length = if is_head { announced() } else { body.exact_len() };
    if !compress::varies(policy, &ask.arrival.method, head.status, &head.headers, length) {
        return body;
    }
    let chosen = compress::chosen(policy, &ask.arrival.headers);
    if enforces {
        compress::vary(&mut head.headers);
    }
    match chosen {
        None => body,
        Some(_) if !enforces => {
            ask.cells().policies.gate_observed("compress");
            body
        }
        Some(chosen) if is_head => {
            compress::dress(chosen, &mut head.headers);
            body
        }
        Some(chosen) => {
            let (body, result) = code(exchange, chosen, body);
            if result == chosen.as_str() || result == KEPT {
                compress::dress(chosen, &mut head.headers);
            }
            ask.cells().policies.compressed(result);
            body
        }
    }
}

/// The body in `chosen`, with the coding's name; or as it was, with the reason.
fn code(exchange: &Exchange, chosen: AnswerCoding, body: Body) -> (Body, &'static str) {
    let shared = &exchange.ask.proxy.shared;
    let content = exchange.cache.content;
    if let Some(form) = content.and_then(|content| shared.coded.get(content, chosen)) {
        return (Body::full(form), KEPT);
    }
    let coding = match chosen {
        AnswerCoding::Zstd => Coding::Zstd,
        AnswerCoding::Brotli => Coding::Brotli,
        AnswerCoding::Gzip => Coding::Gzip,
    };
    if let Body::Full(bytes) = &body
        && bytes.len() <= AT_ONCE
    {
        return match encode::encode(coding, bytes) {
            Ok(coded) if coded.len() < bytes.len() => {
                if let Some(content) = content {
                    shared.coded.keep(content, chosen, coded.clone());
                }
                (Body::full(coded), chosen.as_str())
            }
            Ok(_) => (body, NO_GAIN),
            Err(_) => (body, BUSY),
        };
    }
    let under_way = shared.encoders.enter();
    if shared.encoders.get() > MOST || shared.pressure.level() != Level::Easy {
        return (body, BUSY);
    }
    let forms = shared.coded.clone();
    let kept = content.map(|content| KeepWhole {
        bytes: Vec::new(),
        most: forms.largest(),
        by: Box::new(move |form| forms.keep(content, chosen, form)),
    });
    match Encoded::new(body, coding, under_way, kept) {
        Ok(encoded) => (Body::stream(encoded), chosen.as_str()),
        Err(body) => (body, BUSY),
    }
}

/// Results beside the names of codings.
const KEPT: &str = "kept";
const NO_GAIN: &str = "no_gain";
const BUSY: &str = "busy";
