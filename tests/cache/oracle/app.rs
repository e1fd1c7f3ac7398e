//! The app, and the book of all it ever said.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, header};

use super::{Answer, Ask, Control, ENCODINGS, Failing, Habits, Head, Hears, LANGUAGES, Life, Tags, Vary};

/// An answer of the app's.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// One text in one language and one coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub path: u8,
    pub language: &'static str,
    pub version: u64,
    pub coding: &'static str,
}

/// What an answer of the app's says to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Says {
    Version(u64),
    /// Everything with this tag, compared weakly.
    Tag(String),
    /// Everything of that moment.
    Modified(u64),
}

/// An entry of the book.
#[derive(Debug, Clone)]
struct Given {
    event: u64,
    path: u8,
    says: Vec<Says>,
    at: u64,
    age: u64,
}

/// The app.
pub struct App {
    pub habits: Habits,
    /// Seconds since 1970.
    pub now: u64,
    /// What its answers' `Age` says.
    pub age: u64,
    pub failing: Failing,
    /// Of each path, when each version came.
    versions: [Vec<u64>; 2],
    given: Vec<Given>,
    /// What was to be forgotten, by path, after which event.
    forgotten: Vec<(u8, u64)>,
    events: u64,
    /// How exactly time is known.
    pub slack: u64,
    /// Whether the cache's wall clock is right, so that the age of an answer is what it says.
    pub dates_count: bool,
}

impl App {
    pub fn new(habits: Habits, begin: u64) -> Self {
        // A day old, so that there is something for heuristics.
        let versions = [vec![begin - 86_400], vec![begin - 86_400]];
        Self {
            habits,
            now: begin,
            age: 0,
            failing: Failing::No,
            versions,
            given: Vec::new(),
            forgotten: Vec::new(),
            events: 0,
            slack: 0,
            dates_count: true,
        }
    }

    /// How many things happened so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn change(&mut self, path: u8) {
        self.versions[usize::from(path)].push(self.now);
        self.events += 1;
    }

    /// From now on nothing that was given before may be used for a path.
    pub fn forget(&mut self, path: u8) {
        self.events += 1;
        self.forgotten.push((path, self.events));
    }

    pub fn forget_all(&mut self) {
        self.forget(0);
        self.forget(1);
    }

    /// What the app says to a request; `None`: it cannot be reached.
    pub fn answer(&mut self, method: &Method, path: &str, asked: &HeaderMap) -> Option<Reply> {
        self.events += 1;
        if method == Method::POST {
            return Some(Reply { status: 200, fields: Vec::new(), body: b"done".to_vec() });
        }
        match self.failing {
            Failing::No => {}
            Failing::With503 => return Some(Reply { status: 503, fields: Vec::new(), body: b"down".to_vec() }),
            Failing::Unreachable => return None,
        }
        let path: u8 = path.trim_start_matches('/').parse().expect("a path of the model");
        let shape = self.shape_for(path, asked);
        let head = method == Method::HEAD;
        if let Some(says) = self.not_modified(shape, asked).filter(|_| !head) {
            self.give(shape, vec![says]);
            let mut fields = self.common(shape);
            if self.habits.narrow_304 && fields.iter().any(|(name, _)| *name == "vary") {
                fields.retain(|(name, _)| *name != "vary");
                fields.push(("vary", "Accept-Encoding".into()));
            }
            let tag = if self.habits.tags == Tags::Nginx { self.tag(Shape { coding: "identity", ..shape }) } else { self.tag(shape) };
            fields.extend(tag.filter(|_| self.habits.tag_in_304).map(|tag| ("etag", tag)));
            fields.extend(self.habits.dated.then(|| ("last-modified", date(self.modified(shape)))));
            return Some(Reply { status: 304, fields, body: Vec::new() });
        }
        let mut says = vec![Says::Version(shape.version)];
        if head {
            // A cache may take what has the same tag for the same. A date is shared by all versions of one second.
            says.extend(self.tag(shape).map(|tag| Says::Tag(opaque(&tag).to_owned())));
        }
        self.give(shape, says);
        let shown = if head && self.habits.head == Head::Identity { Shape { coding: "identity", ..shape } } else { shape };
        let body = self.bytes(shown);
        let mut fields = self.common(shape);
        if !(head && self.habits.head == Head::Little) {
            fields.extend(self.tag(shown).map(|tag| ("etag", tag)));
            fields.extend(self.habits.dated.then(|| ("last-modified", date(self.modified(shown)))));
            fields.push(("content-length", body.len().to_string()));
        }
        fields.push(("content-language", shown.language.to_owned()));
        if shown.coding != "identity" {
            fields.push(("content-encoding", shown.coding.to_owned()));
        }
        if head {
            return Some(Reply { status: 200, fields, body: Vec::new() });
        }
        if let Some(first) = self.range(shape, asked, body.len()) {
            fields.retain(|(name, _)| *name != "content-length");
            fields.push(("content-range", format!("bytes {first}-{}/{}", body.len() - 1, body.len())));
            return Some(Reply { status: 206, fields, body: body[first..].to_vec() });
        }
        Some(Reply { status: 200, fields, body })
    }

    fn shape_for(&self, path: u8, asked: &HeaderMap) -> Shape {
        let text = |name: header::HeaderName| asked.get(name).map(|value| value.to_str().expect("text"));
        let encoding = ENCODINGS.iter().find(|(said, _)| *said == text(header::ACCEPT_ENCODING)).expect("one of the model's");
        let language = LANGUAGES.iter().find(|(said, _)| *said == text(header::ACCEPT_LANGUAGE)).expect("one of the model's");
        let version = self.versions[usize::from(path)].len() as u64 - 1;
        Shape { path, language: self.language(language.1), version, coding: encoding.1.first().copied().unwrap_or("identity") }
    }

    /// Languages differ only where `Vary` says so.
    pub fn language(&self, wanted: &'static str) -> &'static str {
        if matches!(self.habits.vary, Vary::Language | Vary::Both) { wanted } else { "en" }
    }

    fn common(&self, shape: Shape) -> Vec<(&'static str, String)> {
        let habits = &self.habits;
        let mut fields = vec![("date", date(self.now))];
        if self.age > 0 {
            fields.push(("age", self.age.to_string()));
        }
        let mut control = Vec::new();
        match habits.life {
            Life::MaxAge(seconds) => control.push(format!("max-age={seconds}")),
            Life::Expires(after) => fields.push(("expires", date(self.now.saturating_add_signed(after)))),
            Life::Forced(_) | Life::Unsaid => {}
        }
        control.extend(habits.must_revalidate.then(|| "must-revalidate".to_owned()));
        control.extend(habits.no_cache.then(|| "no-cache".to_owned()));
        if !control.is_empty() {
            fields.push(("cache-control", control.join(", ")));
        }
        fields.extend(self.vary(shape).map(|names| ("vary", names.to_owned())));
        fields
    }

    /// What the app names in `Vary` for a text.
    pub fn vary(&self, shape: Shape) -> Option<&'static str> {
        match self.habits.vary {
            Vary::Unsaid => None,
            Vary::Encoding => Some("Accept-Encoding"),
            Vary::Language if shape.coding == "identity" => Some("accept-language"),
            Vary::Language | Vary::Both => Some("Accept-Language, Accept-Encoding"),
        }
    }

    /// `If-None-Match` goes first; the app compares weakly.
    fn not_modified(&self, shape: Shape, asked: &HeaderMap) -> Option<Says> {
        let text = |name: header::HeaderName| asked.get(name).map(|value| value.to_str().expect("text"));
        if self.habits.hears == Hears::TagsAndDates
            && let Some(tags) = text(header::IF_NONE_MATCH)
        {
            let own = self.tag(shape)?;
            return tags.split(", ").any(|tag| opaque(tag) == opaque(&own)).then(|| Says::Tag(opaque(&own).to_owned()));
        }
        if self.habits.hears == Hears::Nothing || !self.habits.dated {
            return None;
        }
        let since = httpdate::parse_http_date(text(header::IF_MODIFIED_SINCE)?).expect("a date");
        let since = since.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        let named = self.tag(shape).filter(|_| self.habits.tag_in_304).map(|tag| Says::Tag(opaque(&tag).to_owned()));
        (self.modified(shape) <= since).then(|| named.unwrap_or(Says::Modified(since)))
    }

    fn range(&self, shape: Shape, asked: &HeaderMap, length: usize) -> Option<usize> {
        let range = asked.get(header::RANGE).filter(|_| self.habits.ranges)?.to_str().expect("text");
        let first: usize = range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
        let holds = asked
            .get(header::IF_RANGE)
            .is_none_or(|condition| self.tag(shape).is_some_and(|tag| !tag.starts_with("W/") && condition.as_bytes() == tag.as_bytes()));
        (holds && first < length).then_some(first)
    }

    /// Whether an answer that the app gives now may be used for the next request.
    pub fn gives_fresh(&self, shape: Shape) -> bool {
        let given = Given { event: self.events, path: shape.path, says: Vec::new(), at: self.now, age: self.age };
        self.failing == Failing::No && self.dates_count && !self.habits.no_cache && self.life(&given, shape) > self.age as i64 * 10
    }

    /// Whether a text is what the app gives now.
    pub fn is_current(&self, shape: Shape) -> bool {
        self.versions[usize::from(shape.path)].len() as u64 == shape.version + 1
    }

    fn give(&mut self, shape: Shape, says: Vec<Says>) {
        self.given.push(Given { event: self.events, path: shape.path, says, at: self.now, age: self.age });
    }

    /// Tenths of a second that what was given lives for a text, on the scale of its age.
    fn life(&self, given: &Given, shape: Shape) -> i64 {
        match self.habits.life {
            Life::MaxAge(seconds) => seconds as i64 * 10,
            Life::Expires(after) => after * 10,
            // From when it comes.
            Life::Forced(seconds) => (seconds + given.age) as i64 * 10,
            Life::Unsaid if self.habits.dated => given.at.saturating_sub(self.modified(shape)).min(864_000) as i64,
            Life::Unsaid => 0,
        }
    }

    /// When a version came.
    pub fn modified(&self, shape: Shape) -> u64 {
        self.versions[usize::from(shape.path)][shape.version as usize]
    }

    pub fn tag(&self, Shape { path, language, version, coding }: Shape) -> Option<String> {
        let plain = coding == "identity";
        Some(match self.habits.tags {
            Tags::None => return None,
            Tags::Exact => format!("\"{path}{language}{version}{coding}\""),
            Tags::Weak => format!("W/\"{path}{language}{version}\""),
            Tags::Nginx if !plain => format!("W/\"{path}{language}{version}\""),
            Tags::Nginx | Tags::Shared => format!("\"{path}{language}{version}\""),
            Tags::Loose => format!("W/\"{path}{language}{}\"", version / 2),
        })
    }

    /// The bytes of a text.
    pub fn bytes(&self, Shape { path, language, version, coding }: Shape) -> Vec<u8> {
        let rest = if self.habits.one_length { 20 } else { 20 + version % 5 };
        let text = format!("{path}|{language}|{version:04}|{}", "x".repeat(rest as usize));
        match coding {
            "identity" => text.into_bytes(),
            "gzip" => [b"GZIP", text.as_bytes()].concat().into_iter().map(|byte| byte ^ 1).collect(),
            _ => [b"BR", text.as_bytes()].concat().into_iter().map(|byte| byte ^ 2).collect(),
        }
    }

    /// What has these bytes in this coding.
    pub fn read(&self, coding: &str, bytes: &[u8]) -> Option<Shape> {
        let text: Vec<u8> = match coding {
            "identity" => bytes.to_vec(),
            "gzip" => bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>().strip_prefix(b"GZIP")?.to_vec(),
            "br" => bytes.iter().map(|byte| byte ^ 2).collect::<Vec<_>>().strip_prefix(b"BR")?.to_vec(),
            _ => return None,
        };
        let text = String::from_utf8(text).ok()?;
        let mut parts = text.split('|');
        let path = parts.next()?.parse().ok()?;
        let said = parts.next()?;
        let language = LANGUAGES.iter().map(|(_, language)| *language).find(|language| *language == said)?;
        let version = parts.next()?.parse().ok()?;
        let coding = ["identity", "gzip", "br"].into_iter().find(|known| *known == coding)?;
        let shape = Shape { path, language, version, coding };
        (self.versions.get(usize::from(path))?.len() as u64 > version && self.bytes(shape) == bytes).then_some(shape)
    }

    /// The text of a whole answer.
    pub fn shape_of(&self, answer: &Answer) -> Option<Shape> {
        let coding = answer.headers.get("content-encoding").map_or("identity", |coding| coding.to_str().expect("text"));
        if answer.status == 200 { self.read(coding, &answer.body) } else { None }
    }

    /// Whether the answer to a HEAD names an unchanged text as it was named before.
    pub fn head_keeps(&self, shape: Shape, ask: &Ask) -> bool {
        let wanted = ENCODINGS[ask.encoding].1.first().copied().filter(|_| self.habits.head != Head::Identity);
        let shown = Shape { coding: wanted.unwrap_or("identity"), ..shape };
        self.tag(shape).as_deref().map(opaque) == self.tag(shown).as_deref().map(opaque)
    }

    /// Every text that there ever was.
    pub fn shapes(&self) -> impl Iterator<Item = Shape> {
        let versions = |path: u8| 0..self.versions[usize::from(path)].len() as u64;
        let of_paths = [0, 1].into_iter().flat_map(move |path| versions(path).map(move |version| (path, version)));
        of_paths.flat_map(|(path, version)| {
            ["en", "de"].into_iter().flat_map(move |language| {
                ["identity", "gzip", "br"].into_iter().map(move |coding| Shape { path, language, version, coding })
            })
        })
    }

    /// Whether a request that began after `begun` events and is answered now may get this text, said to be `age` old.
    ///
    /// # Errors
    /// Why not.
    pub fn allows(&self, shape: Shape, control: Control, begun: u64, age: u64) -> Result<(), String> {
        let good: Vec<&Given> = self.given.iter().filter(|given| self.confirms(given, shape)).collect();
        let allowed: Vec<u64> = good
            .iter()
            .filter(|given| self.may_be_used(given, shape, control, begun))
            .map(|given| given.age + self.now - given.at)
            .collect();
        match allowed.iter().min() {
            None => Err(format!("{shape:?} may not be given now ({}); it was said to be good by {good:?}", self.now)),
            Some(least) if age + self.slack < *least => Err(format!("{shape:?} is said to be {age} s old and is {least}")),
            Some(_) => Ok(()),
        }
    }

    fn confirms(&self, given: &Given, shape: Shape) -> bool {
        given.path == shape.path
            && given.says.iter().any(|says| match says {
                Says::Version(version) => *version == shape.version,
                Says::Tag(tag) => self.tag(shape).is_some_and(|own| opaque(&own) == tag),
                Says::Modified(at) => self.modified(shape) == *at,
            })
    }

    fn may_be_used(&self, given: &Given, shape: Shape, control: Control, begun: u64) -> bool {
        if given.event > begun {
            return true;
        }
        let habits = &self.habits;
        let is_forgotten = |(path, event): &(u8, u64)| *path == given.path && given.event < *event && *event <= begun;
        if self.forgotten.iter().any(is_forgotten) || habits.no_cache {
            return false;
        }
        let tenths = |seconds: u64| (seconds + self.slack) as i64 * 10;
        let age = (given.age + self.now - given.at) as i64 * 10;
        let stale = age - self.life(given, shape);
        let within = |window: Option<u64>| !habits.must_revalidate && window.is_some_and(|window| stale <= tenths(window));
        // A failure goes before what the client prefers (RFC 5861 section 4).
        if self.failing != Failing::No && within(habits.stale_if_error) {
            return true;
        }
        let fresh = stale < tenths(0);
        match control {
            Control::NoCache => false,
            Control::MaxAge(most) => fresh && age <= tenths(most),
            Control::MinFresh(least) => fresh && -stale + tenths(0) >= least as i64 * 10,
            Control::MaxStale(most) => fresh || within(Some(most)) || within(habits.stale_while_revalidate),
            Control::None => fresh || within(habits.stale_while_revalidate),
        }
    }
}

/// A tag without its weakness.
pub fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// A moment as a field says it.
pub fn date(seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
