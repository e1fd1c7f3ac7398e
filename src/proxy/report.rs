//! Cost and tokens on a model call's own answer, if its request asks for them: `outrigger-report: usage`.
//!
//! An answer that is no stream is held to its end, within [`MOST`], and has the fields in its head. A stream, or a larger answer, has them in
//! its trailers, if the client reads trailers (`TE: trailers`, RFC 9110 section 6.5.1). An answer for which nothing is charged has none.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;

use super::{
    ask::Ask,
    payer::{Account, Charged},
    sending::Attempted,
};
use crate::{
    body::{Body, BodyError, resumed::Resumed},
    http1::Id,
    provider::{self, price::usd},
    usage::Usage,
};

/// Asks for the fields.
const ASKS: &str = "outrigger-report";
/// Dollars of all tries, exact to the nano-dollar.
const COST: HeaderName = HeaderName::from_static("outrigger-cost-usd");
/// Tokens by class: `input=12, output=34`.
const TOKENS: HeaderName = HeaderName::from_static("outrigger-tokens");
/// How the tokens are known: `provider`, `counted` or `estimated`.
const SOURCE: HeaderName = HeaderName::from_static("outrigger-usage-source");
/// Bytes of an answer that is held to its end at most.
const MOST: usize = 256 << 10;

/// Whether the request asks for the fields.
pub fn is_asked(ask: &Ask) -> bool {
    ask.call().is_some() && ask.arrival.headers.get(ASKS).is_some_and(|value| value.as_bytes() == b"usage")
}

/// The answer with the fields, or with trailers that will have them.
pub async fn onto(ask: &Ask, attempted: Attempted) -> Attempted {
    let Some(call) = ask.call() else { return attempted };
    let kind = attempted.head.headers.get(Id::ContentType).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let attempted = match provider::is_stream(kind) || attempted.body.exact_len().is_some_and(|len| len > MOST as u64) {
        true => attempted,
        false => match held(ask, attempted).await {
            Ok(mut whole) => {
                for (name, value) in fields(&call.account.so_far()) {
                    whole.head.headers.insert(name, value);
                }
                return whole;
            }
            Err(attempted) => attempted,
        },
    };
    trailing(ask, &call.account, attempted)
}

/// Holds an answer to its end. `Err`: it is too large, or broke, and goes on as it comes.
async fn held(ask: &Ask, attempted: Attempted) -> Result<Attempted, Attempted> {
    let Attempted { mut body, .. } = attempted;
    let attempted = Attempted { body: Body::Empty, ..attempted };
    let mut room = ask.proxy.shared.bodies.room();
    let mut read = BytesMut::new();
    loop {
        match body.frame().await.map(|frame| frame.map(Frame::into_data)) {
            None => return Ok(Attempted { body: Body::full(read.freeze()), ..attempted }),
            Some(Ok(Ok(piece))) => {
                read.extend_from_slice(&piece);
                if read.len() > MOST || !room.take(piece.len() as u64) {
                    return Err(Attempted { body: Resumed::coming([read.freeze()], body), ..attempted });
                }
            }
            Some(Ok(Err(_))) => {}
            Some(Err(error)) => return Err(Attempted { body: Resumed::broken([read.freeze()], error), ..attempted }),
        }
    }
}

/// The answer with trailers, if the client reads them.
fn trailing(ask: &Ask, account: &Arc<Account>, mut attempted: Attempted) -> Attempted {
    let reads = ask.arrival.headers.get(header::TE.as_str()).and_then(|value| value.to_str().ok());
    if reads.is_some_and(|te| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))) {
        // Trailers follow a body without an announced length.
        attempted.head.headers.remove(Id::ContentLength);
        attempted.body = Body::stream(Trailing { body: attempted.body, account: account.clone(), ended: false });
    }
    attempted
}

/// The fields of what was charged; none: nothing was.
fn fields(charged: &Charged) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let is_charged = charged.tries > 0;
    let tokens = Usage::NAMES.into_iter().zip(charged.usage.classes()).filter(|(_, tokens)| *tokens > 0);
    let tokens: Vec<String> = tokens.map(|(class, tokens)| format!("{class}={tokens}")).collect();
    let all = [
        (COST, charged.nano_usd.map(usd)),
        (TOKENS, (!tokens.is_empty()).then(|| tokens.join(", "))),
        (SOURCE, Some(charged.source.as_str().to_owned())),
    ];
    all.into_iter().filter(move |_| is_charged).filter_map(|(name, text)| Some((name, HeaderValue::from_str(&text?).ok()?)))
}

/// A body whose trailers have the fields.
struct Trailing {
    body: Body,
    account: Arc<Account>,
    ended: bool,
}

impl HttpBody for Trailing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut trailers = match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => HeaderMap::new(),
            Some(Ok(frame)) => match frame.into_trailers() {
                Ok(trailers) => trailers,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            },
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
        };
        self.ended = true;
        // The tries are charged once the body has ended.
        self.body = Body::Empty;
        trailers.extend(fields(&self.account.so_far()).map(|(name, value)| (Some(name), value)));
        Poll::Ready((!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
