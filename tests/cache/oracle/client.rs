//! The clients: what they ask, what they hold, and what they do not put up with.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    Ask, Control, ENCODINGS, Held, LANGUAGES, Tags, Vary,
    app::{App, Shape, date, opaque},
};

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// A whole answer that a client holds.
#[derive(Debug, Clone)]
struct Copy {
    path: u8,
    encoding: usize,
    language: usize,
    shape: Shape,
    bytes: Vec<u8>,
    tag: Option<String>,
    modified: Option<String>,
    /// Whether it was made at least a second after it was modified (RFC 9110 section 8.8.2.2).
    date_is_strong: bool,
}

/// A request on its way.
#[derive(Debug, Clone)]
pub struct Asked {
    pub ask: Ask,
    pub headers: HeaderMap,
    /// What it is about.
    copy: Option<Copy>,
}

/// All clients.
#[derive(Default)]
pub struct Client {
    copies: Vec<Copy>,
}

/// Copies that are held at most.
const MOST: usize = 4;
/// Bytes that somebody who resumes has.
const BEGINNING: usize = 9;

impl Client {
    /// The request with its fields; `None` if it is about a copy that nobody holds, or that has no such name.
    pub fn request(&self, app: &App, ask: &Ask) -> Option<Asked> {
        // Who is about a copy asks in its language.
        let ask = match ask.held {
            Held::Confirm { copy, .. } | Held::Resume { copy, .. } => Ask { language: self.copies.get(copy)?.language, ..ask.clone() },
            Held::Nothing | Held::Part => ask.clone(),
        };
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: &str| headers.insert(name, HeaderValue::from_str(value).expect("a value"));
        if let Some(said) = ENCODINGS[ask.encoding].0 {
            set(header::ACCEPT_ENCODING, said);
        }
        if let Some(said) = LANGUAGES[ask.language].0 {
            set(header::ACCEPT_LANGUAGE, said);
        }
        match ask.control {
            Control::None => None,
            Control::NoCache => set(header::CACHE_CONTROL, "no-cache"),
            Control::MaxAge(seconds) => set(header::CACHE_CONTROL, &format!("max-age={seconds}")),
            Control::MaxStale(seconds) => set(header::CACHE_CONTROL, &format!("max-stale={seconds}")),
            Control::MinFresh(seconds) => set(header::CACHE_CONTROL, &format!("min-fresh={seconds}")),
        };
        let mut copy = None;
        match ask.held {
            Held::Nothing => {}
            Held::Confirm { copy: at, by_tag } => {
                let held = self.copies.get(at).filter(|held| held.path == ask.path)?;
                let (name, value) = if by_tag { (header::IF_NONE_MATCH, &held.tag) } else { (header::IF_MODIFIED_SINCE, &held.modified) };
                set(name, value.as_deref()?);
                copy = Some(held.clone());
            }
            Held::Resume { copy: at, by_tag } => {
                let held = self.copies.get(at).filter(|held| held.path == ask.path)?;
                // A date is the same for all codings, and so is a strong tag of an app that breaks the rules. Where that app does not
                // say that it has codings, nobody can know.
                let unsaid = matches!(app.habits.vary, Vary::Unsaid | Vary::Language);
                if by_tag && app.habits.tags == Tags::Shared && (unsaid || held.encoding != ask.encoding) {
                    return None;
                }
                if !by_tag && (!held.date_is_strong || (unsaid && held.shape.coding != "identity")) {
                    return None;
                }
                set(header::RANGE, &format!("bytes={BEGINNING}-"));
                set(header::IF_RANGE, if by_tag { held.tag.as_deref()? } else { held.modified.as_deref()? });
                copy = Some(held.clone());
            }
            Held::Part => {
                set(header::RANGE, &format!("bytes={BEGINNING}-"));
            }
        }
        Some(Asked { ask, headers, copy })
    }

    /// Whether the client may have got this answer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&mut self, app: &App, asked: &Asked, begun: u64, answer: &Answer) -> Result<(), String> {
        self.judge(app, asked, begun, answer).map_err(|why| {
            let fields: Vec<String> = answer.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
            format!("{why}; to {asked:?}: {} {fields:?} {:?}", answer.status, String::from_utf8_lossy(&answer.body))
        })
    }

    fn judge(&mut self, app: &App, Asked { ask, copy, .. }: &Asked, begun: u64, answer: &Answer) -> Result<(), String> {
        let text = |name: &str| answer.headers.get(name).map(|value| value.to_str().expect("text"));
        let age = text("age").map_or(0, |age| age.parse().expect("a number"));
        let coding = text("content-encoding").unwrap_or("identity");
        let accepts = ENCODINGS[ask.encoding].1;
        let whole = matches!(answer.status, 200 | 206) && !ask.head;
        if whole && coding != "identity" && !accepts.contains(&coding) {
            return Err(format!("{coding} for a client that accepts {accepts:?}"));
        }
        match answer.status {
            // The app's own failure, or ours for it.
            500.. => Ok(()),
            200 if ask.head => self.judge_head(app, ask, begun, age, answer),
            200 => {
                let shape = app.read(coding, &answer.body).ok_or("bytes that the app never gave")?;
                if text("content-length").is_some_and(|length| length != answer.body.len().to_string()) {
                    return Err("the length is another".into());
                }
                Self::is_wanted(app, ask, shape)?;
                Self::names_are_true(app, shape, text("etag"), text("last-modified"))?;
                Self::choice_is_said(app, shape, text("vary"))?;
                app.allows(shape, ask.control, begun, age)?;
                self.copies.insert(
                    0,
                    Copy {
                        path: ask.path,
                        encoding: ask.encoding,
                        language: ask.language,
                        shape,
                        bytes: answer.body.clone(),
                        tag: text("etag").map(str::to_owned),
                        modified: text("last-modified").map(str::to_owned),
                        date_is_strong: text("date").is_some_and(|made| made != date(app.modified(shape))),
                    },
                );
                self.copies.truncate(MOST);
                Ok(())
            }
            206 => {
                let range = text("content-range").ok_or("a part of what?")?;
                let fits = |shape: &Shape| {
                    let bytes = app.bytes(*shape);
                    shape.coding == coding
                        && bytes.get(BEGINNING..) == Some(&answer.body)
                        && range == format!("bytes {BEGINNING}-{}/{}", bytes.len() - 1, bytes.len())
                        && Self::is_wanted(app, ask, *shape).is_ok()
                        && Self::names_are_true(app, *shape, text("etag"), text("last-modified")).is_ok()
                };
                let shapes: Vec<Shape> = app.shapes().filter(fits).collect();
                if !shapes.iter().any(|shape| app.allows(*shape, ask.control, begun, age).is_ok()) {
                    return Err(format!("a part of nothing that may be given now; it would be of {shapes:?}"));
                }
                let Some(copy) = copy else { return Ok(()) };
                if [&copy.bytes[..BEGINNING], &answer.body].concat() != copy.bytes {
                    return Err(format!("the rest of something else than what is held: {copy:?}"));
                }
                Ok(())
            }
            304 => {
                let copy = copy.as_ref().ok_or("a 304 that was not asked for")?;
                let by_date = matches!(ask.held, Held::Confirm { by_tag: false, .. });
                // By date the client keeps what is no older than what may be given; by tag, what the app calls the same.
                let as_good = |shape: &Shape| {
                    let same = app.tag(*shape).zip(copy.tag.as_deref()).is_some_and(|(tag, held)| opaque(&tag) == opaque(held));
                    (shape.path, shape.language) == (copy.shape.path, copy.shape.language)
                        && if by_date { app.modified(*shape) <= app.modified(copy.shape) } else { same }
                };
                if app.shapes().filter(as_good).any(|shape| app.allows(shape, ask.control, begun, age).is_ok()) {
                    return Ok(());
                }
                app.allows(copy.shape, ask.control, begun, age)
            }
            other => Err(format!("a {other}")),
        }
    }

    /// The fields say for what text they stand.
    fn judge_head(&self, app: &App, ask: &Ask, begun: u64, age: u64, answer: &Answer) -> Result<(), String> {
        let text = |name: &str| answer.headers.get(name).map(|value| value.to_str().expect("text"));
        let named = |shape: &Shape| {
            shape.path == ask.path
                && text("etag").is_none_or(|tag| app.tag(*shape).is_some_and(|own| opaque(&own) == opaque(tag)))
                && text("last-modified").is_none_or(|at| at == date(app.modified(*shape)))
        };
        let any = app.shapes().filter(named).any(|shape| app.allows(shape, ask.control, begun, age).is_ok());
        any.then_some(()).ok_or_else(|| "the fields of nothing that may be given now".into())
    }

    fn is_wanted(app: &App, ask: &Ask, shape: Shape) -> Result<(), String> {
        if shape.path != ask.path {
            return Err(format!("of another path: {shape:?}"));
        }
        let wanted = app.language(LANGUAGES[ask.language].1);
        if shape.language != wanted {
            return Err(format!("not in {wanted}: {shape:?}"));
        }
        Ok(())
    }

    /// `Vary` names all that the app names: the next cache relies on it.
    fn choice_is_said(app: &App, shape: Shape, said: Option<&str>) -> Result<(), String> {
        let names = |line: &str| line.split(',').map(|name| name.trim().to_ascii_lowercase()).collect::<Vec<_>>();
        let said = names(said.unwrap_or_default());
        let unsaid: Vec<String> = app.vary(shape).map(names).unwrap_or_default().into_iter().filter(|name| !said.contains(name)).collect();
        if unsaid.is_empty() { Ok(()) } else { Err(format!("Vary does not name {unsaid:?} of {shape:?}")) }
    }

    /// A strong tag and a date are of these bytes; a weak tag says what the app says of them.
    fn names_are_true(app: &App, shape: Shape, tag: Option<&str>, modified: Option<&str>) -> Result<(), String> {
        let own = app.tag(shape);
        match tag {
            Some(tag) if own.as_deref() != Some(tag) => Err(format!("{tag} for {own:?} of {shape:?}")),
            _ if modified.is_some_and(|at| at != date(app.modified(shape))) => Err(format!("modified {modified:?}, {shape:?}")),
            _ => Ok(()),
        }
    }
}
