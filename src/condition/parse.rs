//! Reading a condition.

use super::{Condition, Fact, Operator, Side, Step};

/// Longest condition, in bytes.
const LONGEST: usize = 1_024;
/// Most words of `any()`, and most steps of a path.
const MOST: usize = 64;

const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("<", Operator::Less),
    (">", Operator::Greater),
];
const FACTS: [(&str, Fact); 5] = [
    ("[STATUS]", Fact::Status),
    ("[RESPONSE_TIME]", Fact::ResponseTime),
    ("[IP]", Fact::Ip),
    ("[CONNECTED]", Fact::Connected),
    ("[CERTIFICATE_EXPIRATION]", Fact::CertificateExpiration),
];

pub(super) fn condition(text: &str) -> Result<Condition, String> {
    if text.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    let (at, word, operator) = operator(text).ok_or_else(|| {
        format!("`{text}` compares nothing; write a comparison with spaces around it, such as `[STATUS] == 200` or `[RESPONSE_TIME] < 500`")
    })?;
    let (left, right) = (text[..at].trim(), text[at + word.len()..].trim());
    if left.is_empty() || right.is_empty() {
        return Err(format!("`{text}` has nothing on one side of `{word}`"));
    }
    let condition = Condition { written: text.to_owned(), left: side(left)?, operator, right: side(right)? };
    let facts = |side: &Side| matches!(side, Side::Fact(_) | Side::Len(_) | Side::Has(_));
    if !facts(&condition.left) && !facts(&condition.right) {
        return Err(format!("`{text}` looks at nothing; one side is a placeholder, such as `[STATUS]`"));
    }
    let sets = |side: &Side| matches!(side, Side::Pattern(_) | Side::Any(_));
    if (sets(&condition.left) || sets(&condition.right)) && !matches!(operator, Operator::Equal | Operator::NotEqual) {
        return Err(format!("`{word}` cannot compare with pat() or any(); write == or !="));
    }
    Ok(condition)
}

/// The first operator outside parentheses and between spaces.
fn operator(text: &str) -> Option<(usize, &'static str, Operator)> {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => {
                let rest = &text[at + 1..];
                let found = OPERATORS.iter().find(|(word, _)| rest.strip_prefix(word).is_some_and(|after| after.starts_with(' ')));
                if let Some((word, operator)) = found {
                    return Some((at + 1, word, *operator));
                }
            }
            _ => {}
        }
    }
    None
}

fn side(text: &str) -> Result<Side, String> {
    if let Some((name, inside)) = call(text) {
        return match name {
            "len" => Ok(Side::Len(fact(inside)?)),
            "has" => Ok(Side::Has(fact(inside)?)),
            "pat" => Ok(Side::Pattern(inside.to_owned())),
            "any" => {
                let words: Vec<Side> = inside.split(',').map(|word| side(word.trim())).collect::<Result<_, _>>()?;
                let plain = |side: &Side| matches!(side, Side::Word(word) if !word.is_empty()) || matches!(side, Side::Pattern(_));
                match words.len() <= MOST && words.iter().all(plain) {
                    true => Ok(Side::Any(words)),
                    false => Err(format!("`{text}`: any() takes at most {MOST} words, separated by commas, such as any(200, 429)")),
                }
            }
            _ => Err(format!("`{name}()` is unknown; write len(), has(), pat() or any()")),
        };
    }
    match text.starts_with('[') {
        true => fact(text).map(Side::Fact),
        false => Ok(Side::Word(text.to_owned())),
    }
}

/// `name(inside)`.
fn call(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once('(')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
    rest.strip_suffix(')').filter(|_| is_name).map(|inside| (name, inside.trim()))
}

fn fact(text: &str) -> Result<Fact, String> {
    if let Some((_, fact)) = FACTS.iter().find(|(word, _)| *word == text) {
        return Ok(fact.clone());
    }
    if let Some(path) = text.strip_prefix("[BODY]") {
        return steps(path)
            .map(Fact::Body)
            .ok_or_else(|| format!("`{text}` is no place in a body; write [BODY].status or [BODY].items[0].id"));
    }
    let known: Vec<&str> = FACTS.iter().map(|(word, _)| *word).collect();
    Err(format!("`{text}` is no placeholder; write {} or [BODY].path", known.join(", ")))
}

/// `.a.b[0].c`
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if steps.len() >= MOST {
            return None;
        }
        if let Some(inside) = rest.strip_prefix('[') {
            let (number, after) = inside.split_once(']')?;
            steps.push(Step::Item(number.parse().ok()?));
            rest = after;
        } else {
            let name = rest.strip_prefix('.')?;
            let end = name.find(['.', '[']).unwrap_or(name.len());
            steps.push(Step::Member(Some(&name[..end]).filter(|name| !name.is_empty())?.to_owned()));
            rest = &name[end..];
        }
    }
    Some(steps)
}
