//! Every mistake of a configuration file at once, each with its place, the bad value and what would be right.
//!
//! Secrets are never printed: the quoted source line is masked where a secret, or a value of an unknown key, stands.

use std::fmt;

use serde_json::{Value, json};

use super::read::{PLACE, tree::Mark};

/// Most mistakes printed; the rest are counted.
const SHOWN: usize = 100;
/// Characters of a source line that are quoted.
const EXCERPT: usize = 110;

/// Everything that is wrong with a file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    file: String,
    list: Vec<Mistake>,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// 1-based; 0 if the mistake has no place in the file.
    pub line: usize,
    /// 1-based, in characters; 0 if the mistake has no place in the file.
    pub column: usize,
    /// What is wrong and what would be right.
    pub message: String,
    /// What is written there, where the message speaks of it.
    pub value: Option<String>,
    excerpt: Option<Excerpt>,
}

/// A piece of a masked source line and where the caret goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    caret: usize,
}

/// A message and its place, before it is tied to a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault {
    pub(super) at: Mark,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(at: Mark, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// Lines as YAML counts them (1.2.2 section 5.4): a line ends with LF, CR LF, or a CR alone. Masks refer to these lines.
pub(super) fn lines(source: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(source);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\r', '\n']) else {
            rest = None;
            return Some(text);
        };
        let (line, after) = text.split_at(end);
        rest = Some(after.strip_prefix("\r\n").unwrap_or(&after[1..]));
        Some(line)
    })
}

impl Mistakes {
    /// One mistake without a place, such as a file that cannot be read.
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), list: vec![Mistake::of_value(None, message)] }
    }

    /// Ties faults to the lines they are about; `masks` are the stretches of the source that must not be shown.
    pub(super) fn new(file: &str, source: &str, mut faults: Vec<Fault>, masks: &[(Mark, Mark)]) -> Self {
        faults.sort();
        faults.dedup();
        let lines: Vec<&str> = lines(source).collect();
        let list = faults
            .into_iter()
            .map(|fault| {
                let line = lines.get((fault.at.line as usize).wrapping_sub(1));
                let excerpt = line.map(|line| Excerpt::new(line, fault.at, masks));
                // A message never has a secret; what it does not speak of is not repeated.
                let value = line.map(|line| written(line, fault.at)).filter(|value| fault.message.contains(&quoted(value)));
                let (line, column) = (fault.at.line as usize, fault.at.column as usize);
                Mistake { line, column, message: fault.message, value: value.map(str::to_owned), excerpt }
            })
            .collect();
        Self { file: file.to_owned(), list }
    }

    /// The mistakes, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.list.iter()
    }

    /// The number of mistakes.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The same for programs: `error` is the whole text, `mistakes` are the single ones ([`Mistake::to_json`]).
    pub fn to_json(&self) -> Value {
        let one = |mistake: &Mistake| mistake.to_json(Some(&self.file));
        json!({"error": self.to_string(), "file": self.file, "mistakes": self.list.iter().map(one).collect::<Vec<_>>()})
    }

    /// Never true for a value that `read` returned.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in self.list.iter().take(SHOWN) {
            match mistake.line {
                0 => writeln!(f, "{}: {}", self.file, mistake.message)?,
                line => writeln!(f, "{}:{line}:{}: {}", self.file, mistake.column, mistake.message)?,
            }
            if let Some(excerpt) = &mistake.excerpt {
                writeln!(f, "{:>5} | {}", mistake.line, excerpt.text)?;
                writeln!(f, "      | {:caret$}^", "", caret = excerpt.caret)?;
            }
        }
        if self.list.len() > SHOWN {
            writeln!(f, "... and {} more", self.list.len() - SHOWN)?;
        }
        match self.list.len() {
            1 => write!(f, "{}: 1 mistake", self.file),
            n => write!(f, "{}: {n} mistakes", self.file),
        }
    }
}

impl std::error::Error for Mistakes {}

impl Mistake {
    /// A mistake in what was asked for, not in a file.
    pub fn of_value(value: Option<&str>, message: impl Into<String>) -> Self {
        Self { line: 0, column: 0, message: message.into(), value: value.map(str::to_owned), excerpt: None }
    }

    /// For programs: `file`, `line`, `column`, `value`, `message` (what is wrong) and `hint` (what would be right). All are there;
    /// what is not known is null.
    pub fn to_json(&self, file: Option<&str>) -> Value {
        let place = |number: usize| (number > 0).then_some(number);
        let (message, hint) = apart(&self.message);
        json!({
            "file": file, "line": place(self.line), "column": place(self.column),
            "value": self.value, "message": message, "hint": hint,
        })
    }
}

/// What is wrong, and what would be right: the two parts of a message.
fn apart(message: &str) -> (&str, Option<&str>) {
    let outside = |at: usize| message[..at].matches('`').count().is_multiple_of(2);
    let first = |mark: &str| {
        message.match_indices(mark).find(|(at, _)| outside(*at)).map(|(at, mark)| (&message[..at], &message[at + mark.len()..]))
    };
    // A word of another product is followed by what is written instead.
    let foreign = || first(": ").filter(|_| message.starts_with("unknown key"));
    first("; ").or_else(foreign).map_or((message, None), |(wrong, hint)| (wrong, Some(hint)))
}

/// The key or value that begins at `at`: up to its closing quote, or to what ends a plain one.
fn written(line: &str, at: Mark) -> &str {
    let rest = line.char_indices().nth(at.column.saturating_sub(1) as usize).map_or("", |(start, _)| &line[start..]);
    match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => rest[1..].split(quote).next().unwrap_or_default(),
        _ => {
            let ends = |(n, c): (usize, char)| {
                let blank = |after: &str| after.is_empty() || after.starts_with([' ', '\t']);
                matches!(c, ',' | '}' | ']') || (c == ':' && blank(&rest[n + 1..])) || (c == '#' && rest[..n].ends_with(' '))
            };
            rest[..rest.char_indices().find(|one| ends(*one)).map_or(rest.len(), |(n, _)| n)].trim_end()
        }
    }
}

impl Excerpt {
    fn new(line: &str, at: Mark, masks: &[(Mark, Mark)]) -> Self {
        let column = at.column.saturating_sub(1) as usize;
        // A caret near the end of a long line still has its line around it.
        let skip = if column > EXCERPT - 20 { column - EXCERPT / 2 } else { 0 };
        let mut text = String::new();
        if skip > 0 {
            text.push('…');
        }
        let credentials = credentials(line);
        for (n, c) in line.chars().enumerate().skip(skip).take(EXCERPT) {
            let here = Mark { line: at.line, column: u32::try_from(n + 1).unwrap_or(u32::MAX) };
            let masked = masks.iter().any(|(from, to)| *from <= here && here < *to) && !c.is_whitespace() && !"{}[]\"'".contains(c);
            let hidden = masked || credentials.iter().any(|place| place.contains(&n));
            text.push(match c {
                _ if hidden => '*',
                c if c.is_control() => ' ',
                c => c,
            });
        }
        if line.chars().nth(skip + EXCERPT).is_some() {
            text.push('…');
        }
        Self { text, caret: column - skip + usize::from(skip > 0) }
    }
}

/// Where user information stands in the URLs of a line, in characters.
pub(super) fn credentials(line: &str) -> Vec<std::ops::Range<usize>> {
    let count = |text: &str| text.chars().count();
    let of_url = |(at, scheme): (usize, &str)| {
        let start = at + scheme.len();
        let authority = line[start..].split(|c: char| c.is_whitespace() || "/?#\"'}],".contains(c)).next()?;
        let (user, _) = authority.rsplit_once('@')?;
        Some(count(&line[..start])..count(&line[..start]) + count(user))
    };
    line.match_indices("://").filter_map(of_url).collect()
}

/// A value as shown in a message: in backticks, on one line, not too long. A place that each request fills is shown as it is written.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let pieces = text.split(PLACE).enumerate();
    let text: String = pieces.map(|(at, piece)| if at % 2 == 1 { format!("${{{piece}}}") } else { piece.to_owned() }).collect();
    let mut shown: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// The nearest of `choices`, if it is near enough to be a slip of the keys.
pub(super) fn nearest<'a>(text: &str, choices: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    if lower.chars().count() > 64 {
        return None;
    }
    choices
        .into_iter()
        .map(|choice| (strsim::damerau_levenshtein(&lower, &choice.to_lowercase()), choice))
        .filter(|(distance, choice)| *distance <= 1 + choice.chars().count() / 4 && *distance < choice.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, choice)| choice)
}

/// `; did you mean ...?` with the nearest of the choices, or nothing if none is near.
pub fn did_you_mean<'a>(text: &str, choices: impl IntoIterator<Item = &'a str>) -> String {
    nearest(text, choices).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(line: u32, column: u32) -> Mark {
        Mark { line, column }
    }

    #[test]
    fn a_mistake_shows_its_line_and_a_caret() {
        let source = "inbound:\n  app: x\ncache: {ttll: 60s}\n";
        let faults = vec![Fault::new(mark(3, 9), "unknown key `ttll` in cache; did you mean `ttl`?"), Fault::new(mark(2, 8), "first")];
        let text = Mistakes::new("proxy.yaml", source, faults, &[]).to_string();
        assert_eq!(
            text,
            "proxy.yaml:2:8: first\n    2 |   app: x\n      |        ^\n\
             proxy.yaml:3:9: unknown key `ttll` in cache; did you mean `ttl`?\n    3 | cache: {ttll: 60s}\n      |         ^\n\
             proxy.yaml: 2 mistakes"
        );
    }

    #[test]
    fn for_programs_a_mistake_has_its_parts() {
        let source = "a: {ttll: 60s}\nb: 'x; y' # c\nc: sk-secret\n";
        let faults = vec![
            Fault::new(mark(1, 5), "unknown key `ttll` in a; did you mean `ttl`?"),
            Fault::new(mark(2, 4), "`x; y` is not a duration; write 250ms, 2s, 1m, 1h or 1d"),
            Fault::new(mark(3, 4), "is a name and not the value"),
            Fault::new(mark(1, 1), "unknown key `a` in the file: it is written in `b`"),
        ];
        let json = Mistakes::new("f", source, faults, &[(mark(3, 4), mark(3, 13))]).to_json();
        let at = |n: usize, name: &str| json["mistakes"][n][name].clone();
        assert_eq!((at(0, "value"), at(0, "hint")), ("a".into(), "it is written in `b`".into()));
        assert_eq!(
            (at(1, "value"), at(1, "message"), at(1, "hint")),
            ("ttll".into(), "unknown key `ttll` in a".into(), "did you mean `ttl`?".into())
        );
        assert_eq!((at(2, "value"), at(2, "message"), at(2, "line")), ("x; y".into(), "`x; y` is not a duration".into(), 2.into()));
        assert_eq!((at(3, "value"), at(3, "hint"), at(3, "column"), at(3, "file")), (Value::Null, Value::Null, 4.into(), "f".into()));
        assert!(!json.to_string().contains("secret"), "{json}");
    }

    #[test]
    fn a_masked_stretch_is_never_shown() {
        let text =
            Mistakes::new("f", "keys: [sk-secret] # x\n", vec![Fault::new(mark(1, 1), "m")], &[(mark(1, 8), mark(1, 17))]).to_string();
        assert!(!text.contains("secret") && text.contains("keys: [*********] # x"), "{text}");
    }

    #[test]
    fn what_a_url_says_of_its_user_is_never_shown() {
        let line = "app: http://Jürgen:geheim@h/x, b: 'https://plain/@' # https://me@x";
        let text = Mistakes::new("f", line, vec![Fault::new(mark(1, 1), "m")], &[]).to_string();
        assert!(text.contains("app: http://*************@h/x, b: 'https://plain/@' # https://**@x"), "{text}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let line = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let mistakes = Mistakes::new("f", &line, vec![Fault::new(mark(1, 501), "m")], &[]);
        let excerpt = mistakes.list[0].excerpt.as_ref().expect("has a line");
        assert_eq!(excerpt.text.chars().nth(excerpt.caret), Some('H'));
        assert!(excerpt.text.chars().count() < 120);
    }

    #[test]
    fn the_same_fault_is_said_once_and_the_list_is_bounded() {
        let many = (1..=150).flat_map(|n| [Fault::new(mark(n, 1), "m"), Fault::new(mark(n, 1), "m")]).collect();
        let mistakes = Mistakes::new("f", "", many, &[]);
        assert_eq!(mistakes.len(), 150);
        let text = mistakes.to_string();
        assert!(text.contains("... and 50 more") && text.ends_with("f: 150 mistakes"));
    }

    #[test]
    fn the_nearest_word_is_a_slip_away() {
        assert_eq!(nearest("ttll", ["ttl", "tags"]), Some("ttl"));
        assert_eq!(nearest("cahce", ["cache", "caller"]), Some("cache"));
        assert_eq!(nearest("zebra", ["ttl", "tags"]), None);
        assert_eq!(nearest("a", ["b"]), None);
    }
}
