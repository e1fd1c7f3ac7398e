//! Judging an answer by a condition.

use std::{borrow::Cow, time::Duration};

use serde_json::Value;

use super::{Condition, Fact, Operator, Side, Step};

/// What a check has found out.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// The status; `None`: there is no answer of HTTP.
    pub status: Option<u16>,
    /// From the beginning of the check to the end of the answer.
    pub took: Duration,
    /// The address that was reached.
    pub ip: Option<String>,
    /// Whether a connection was made.
    pub connected: bool,
    /// Time until the certificate expires; negative: it has expired. `None`: there is none.
    pub certificate: Option<i64>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a condition says of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not; the condition with the values in it.
    Fails(String),
}

/// A value on one side.
#[derive(Debug, Clone, PartialEq)]
enum Seen<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    Bool(bool),
    /// There is no such fact.
    Nothing,
}

pub(super) fn judge(condition: &Condition, subject: &Subject) -> Verdict {
    let json = condition.reads_body().then(|| serde_json::from_slice::<Value>(&subject.body).ok()).flatten();
    let left = seen(&condition.left, subject, json.as_ref());
    let right = seen(&condition.right, subject, json.as_ref());
    let equal = || match (&condition.left, &condition.right) {
        (Side::Pattern(_) | Side::Any(_), _) => matches(&condition.left, &right),
        (_, Side::Pattern(_) | Side::Any(_)) => matches(&condition.right, &left),
        _ => same(&left, &right),
    };
    let order = || Some(number(&left)?.total_cmp(&number(&right)?));
    let holds = match condition.operator {
        Operator::Equal => equal(),
        Operator::NotEqual => !equal(),
        Operator::Less => order().is_some_and(std::cmp::Ordering::is_lt),
        Operator::AtMost => order().is_some_and(std::cmp::Ordering::is_le),
        Operator::Greater => order().is_some_and(std::cmp::Ordering::is_gt),
        Operator::AtLeast => order().is_some_and(std::cmp::Ordering::is_ge),
    };
    if holds {
        return Verdict::Holds;
    }
    let shown = [(&condition.left, &left), (&condition.right, &right)]
        .into_iter()
        .filter(|(side, _)| !matches!(side, Side::Word(_) | Side::Pattern(_) | Side::Any(_)));
    let values: Vec<String> = shown.map(|(_, value)| text(value)).collect();
    Verdict::Fails(format!("{} (it is {})", condition.written, values.join(" and ")))
}

fn seen<'a>(side: &'a Side, subject: &'a Subject, json: Option<&'a Value>) -> Seen<'a> {
    match side {
        Side::Word(word) => Seen::Text(Cow::Borrowed(word)),
        Side::Fact(fact) => of_fact(fact, subject, json),
        Side::Has(fact) => Seen::Bool(of_fact(fact, subject, json) != Seen::Nothing),
        Side::Len(Fact::Body(steps)) => match (steps.is_empty(), json.and_then(|json| walk(json, steps))) {
            (_, Some(Value::Array(items))) => Seen::Number(items.len() as f64),
            (_, Some(Value::Object(members))) => Seen::Number(members.len() as f64),
            (_, Some(Value::String(text))) => Seen::Number(text.chars().count() as f64),
            (_, Some(other)) => Seen::Number(other.to_string().len() as f64),
            (true, None) => Seen::Number(String::from_utf8_lossy(&subject.body).chars().count() as f64),
            (false, None) => Seen::Nothing,
        },
        Side::Len(fact) => match of_fact(fact, subject, json) {
            Seen::Nothing => Seen::Nothing,
            value => Seen::Number(text(&value).chars().count() as f64),
        },
        Side::Pattern(_) | Side::Any(_) => Seen::Nothing,
    }
}

fn of_fact<'a>(fact: &Fact, subject: &'a Subject, json: Option<&'a Value>) -> Seen<'a> {
    match fact {
        Fact::Status => subject.status.map_or(Seen::Nothing, |status| Seen::Number(status.into())),
        Fact::ResponseTime => Seen::Number((subject.took.as_secs_f64() * 1e4).round() / 10.0),
        Fact::Ip => subject.ip.as_deref().map_or(Seen::Nothing, |ip| Seen::Text(Cow::Borrowed(ip))),
        Fact::Connected => Seen::Bool(subject.connected),
        Fact::CertificateExpiration => subject.certificate.map_or(Seen::Nothing, |left| Seen::Number(left as f64 * 1e3)),
        Fact::Body(steps) if steps.is_empty() => Seen::Text(String::from_utf8_lossy(&subject.body)),
        Fact::Body(steps) => match json.and_then(|json| walk(json, steps)) {
            None => Seen::Nothing,
            Some(Value::String(text)) => Seen::Text(Cow::Borrowed(text)),
            Some(Value::Bool(value)) => Seen::Bool(*value),
            Some(Value::Number(number)) => number.as_f64().map_or(Seen::Nothing, Seen::Number),
            Some(other) => Seen::Text(Cow::Owned(other.to_string())),
        },
    }
}

fn walk<'a>(json: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps.iter().try_fold(json, |at, step| match step {
        Step::Member(name) => at.get(name),
        Step::Item(number) => at.get(number),
    })
}

/// A number, or a duration in milliseconds.
fn number(seen: &Seen<'_>) -> Option<f64> {
    match seen {
        Seen::Number(number) => Some(*number),
        Seen::Text(text) => {
            let plain = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
            plain.or_else(|| humantime::parse_duration(text.trim()).ok().map(|time| time.as_secs_f64() * 1e3))
        }
        Seen::Bool(_) | Seen::Nothing => None,
    }
}

fn text(seen: &Seen<'_>) -> String {
    const SHOWN: usize = 80;
    match seen {
        Seen::Text(text) => text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect(),
        Seen::Number(number) => format!("{number}"),
        Seen::Bool(value) => value.to_string(),
        Seen::Nothing => "nothing".to_owned(),
    }
}

fn same(left: &Seen<'_>, right: &Seen<'_>) -> bool {
    match (left, right) {
        (Seen::Nothing, _) | (_, Seen::Nothing) => false,
        (Seen::Number(_), _) | (_, Seen::Number(_)) => number(left).zip(number(right)).is_some_and(|(a, b)| (a - b).abs() < 1e-9),
        _ => whole(left) == whole(right),
    }
}

fn whole<'a>(seen: &'a Seen<'_>) -> Cow<'a, str> {
    match seen {
        Seen::Text(text) => Cow::Borrowed(text),
        other => Cow::Owned(text(other)),
    }
}

fn matches(set: &Side, value: &Seen<'_>) -> bool {
    match set {
        _ if *value == Seen::Nothing => false,
        Side::Pattern(pattern) => glob(pattern, &whole(value)),
        Side::Any(sides) => sides.iter().any(|side| matches(side, value)),
        Side::Word(word) => same(&Seen::Text(Cow::Borrowed(word)), value),
        _ => false,
    }
}

/// Whether all of `text` matches a pattern with `*`; linear in practice, never exponential.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
