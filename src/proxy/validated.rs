//! `validate` on the way: the request is looked at before it counts, and its body is read first where something depends on it.

use bytes::Bytes;

use super::{
    ask::{Ask, Origin},
    exchange::Exchange,
    gate,
    live::LiveDoor,
    read_first::{self, Read},
};
use crate::{
    body::{Body, replay::Replay},
    config::{Mode, Validate},
    in_place,
    policy::validate::{BodyPlan, Given, head},
    reject::{Invalid, Reject},
};

/// Lets a request pass that is as its route says; gives its body.
///
/// # Errors
/// What is wrong with the request, where the policy enforces; a body that cannot be read.
pub(super) async fn pass(exchange: &mut Exchange, door: &LiveDoor, body: Replay) -> Result<Replay, Reject> {
    match exchange.ask.route().is_some_and(|route| route.policies.validate.is_some()) {
        false => Ok(body),
        // Long: it would be memory of every request.
        true => in_place::pinned(|| checked(exchange, door, body)).await,
    }
}

async fn checked(exchange: &mut Exchange, door: &LiveDoor, mut body: Replay) -> Result<Replay, Reject> {
    let ask = exchange.ask.clone();
    let Some(policy) = ask.route().and_then(|route| route.policies.validate.as_ref()) else { return Ok(body) };
    // The proxy's own requests were looked at when their clients sent them.
    if ask.origin != Origin::Client {
        return Ok(body);
    }
    let arrival = &ask.arrival;
    let given = Given {
        method: &arrival.method,
        path: arrival.path(),
        query: arrival.uri.query().unwrap_or_default(),
        fields: &arrival.headers,
        has_body: !matches!(&body, Replay::Whole(bytes) if bytes.is_empty()),
    };
    let found = match head(policy, &given) {
        Ok(None) => Ok(()),
        Ok(Some(plan)) => {
            let (again, found) = look(&ask, door, policy, plan, body).await?;
            body = again;
            found
        }
        Err(invalid) => Err(invalid),
    };
    match (found, policy.mode) {
        (Ok(()), _) => Ok(body),
        (Err(invalid), Mode::Enforce) => Err(Reject::Invalid(Box::new(invalid))),
        (Err(invalid), Mode::Observe) => {
            gate::observed(exchange, ask.route_at(), "validate", Reject::Invalid(Box::new(invalid)).detail());
            Ok(body)
        }
    }
}

/// Looks at the body; gives it back to be sent, and what is wrong.
async fn look(
    ask: &Ask,
    door: &LiveDoor,
    policy: &Validate,
    plan: BodyPlan<'_>,
    body: Replay,
) -> Result<(Replay, Result<(), Invalid>), Reject> {
    let most = read_first::most(door).min(plan.most().unwrap_or(u64::MAX));
    let bytes = match body {
        Replay::Whole(bytes) => bytes,
        mut streaming => {
            let Some(stream) = streaming.take() else { return Ok((streaming, Ok(()))) };
            // A length that is announced is kept to: nothing has to be read for it.
            if let (false, Some(len)) = (plan.reads(), stream.exact_len()) {
                let found = if len > most { Err(BodyPlan::too_large(most)) } else { plan.check(&b"-"[..usize::from(len > 0)]) };
                return Ok((Replay::new(stream), found));
            }
            match read_first::read_up_to(ask, most, stream).await? {
                Read::Whole(bytes) => bytes,
                // It goes on as it came, where the policy only observes.
                Read::Partly(rest, why) => return unread(policy, most, rest, why),
            }
        }
    };
    if bytes.len() as u64 > most {
        return Ok((Replay::Whole(bytes), Err(BodyPlan::too_large(most))));
    }
    let text = if plan.reads() { text_of(ask, door, policy, &bytes)? } else { None };
    let found = plan.check(text.as_deref().unwrap_or(&bytes));
    Ok((Replay::Whole(bytes), found))
}

/// A body of which only a part was read.
fn unread(policy: &Validate, most: u64, rest: Body, why: &'static str) -> Result<(Replay, Result<(), Invalid>), Reject> {
    let invalid = match why {
        read_first::TOO_LARGE => BodyPlan::too_large(most),
        read_first::NO_ROOM if policy.mode == Mode::Enforce => return Err(read_first::no_room()),
        read_first::NO_ROOM => return Ok((Replay::new(rest), Ok(()))),
        _ => BodyPlan::trailers(),
    };
    Ok((Replay::new(rest), Err(invalid)))
}

/// The decoded text of a body in a content coding. Where the policy only observes, a body that cannot be decoded is left.
fn text_of(ask: &Ask, door: &LiveDoor, policy: &Validate, bytes: &Bytes) -> Result<Option<Bytes>, Reject> {
    match (read_first::text_of(ask, door, bytes), policy.mode) {
        (Err(_), Mode::Observe) => Ok(None),
        (text, _) => text,
    }
}
