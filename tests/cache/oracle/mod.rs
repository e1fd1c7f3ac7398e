//! A model of an app, of its clients and of time, that knows every answer the app ever gave: any sequence of requests through a
//! cache gives each client bytes that it accepts and that some single answer had, which was fresh enough for what was asked.
//!
//! The app speaks codings and languages, gives strong, weak, shared or no entity tags, is old or not, changes its texts, fails.
//! What runs the sequence (the cache alone, a whole proxy, replicas with a Redis) is a [`Way`].

#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

mod app;
mod client;

use http::Method;
use proptest::prelude::*;

pub use self::{
    app::{App, Reply},
    client::{Answer, Asked, Client},
};

/// What the app does all the time.
#[derive(Debug, Clone)]
pub struct Habits {
    pub vary: Vary,
    pub tags: Tags,
    /// Whether it gives `Last-Modified`.
    pub dated: bool,
    pub hears: Hears,
    pub tag_in_304: bool,
    /// Whether the `Vary` of a 304 names `Accept-Encoding` alone (something between the app and its clients adds it).
    pub narrow_304: bool,
    pub head: Head,
    /// Whether it answers ranges itself.
    pub ranges: bool,
    pub life: Life,
    /// Of the policy.
    pub stale_while_revalidate: Option<u64>,
    /// Of the policy.
    pub stale_if_error: Option<u64>,
    pub must_revalidate: bool,
    pub no_cache: bool,
    /// Whether all its texts are equally long.
    pub one_length: bool,
}

/// What `Vary` names. Languages are negotiated only where it names them; codings always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vary {
    /// nginx without `gzip_vary`.
    Unsaid,
    Encoding,
    Language,
    Both,
}

/// Entity tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tags {
    None,
    /// Strong, another for each coding.
    Exact,
    /// Weak, one for all codings (Express).
    Weak,
    /// Strong for identity, the same one weak for codings; a 304 says the strong one (nginx).
    Nginx,
    /// One strong for all codings, which the RFC forbids (Starlette).
    Shared,
    /// Weak, and the same for two versions in a row.
    Loose,
}

/// Which conditions the app hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hears {
    TagsAndDates,
    Dates,
    Nothing,
}

/// What the app's answers to HEAD say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    Everything,
    /// Neither a validator nor a length.
    Little,
    /// The fields of identity, whatever is accepted (nginx).
    Identity,
}

/// How long an answer is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    MaxAge(u64),
    /// After `Date`, or before it.
    Expires(i64),
    /// By the policy's `ttl`.
    Forced(u64),
    /// Nothing is said.
    Unsaid,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Step {
    Ask(Ask),
    /// One begins to fetch; others ask and perhaps join; something may happen before the app answers.
    Overlap(Ask, Vec<Ask>, Meanwhile),
    /// The app is asked for the head of what may be stored. What stays as it was is still answered without the app.
    Head(Ask),
    /// The text of a path changes, is fetched, and changes again within the same second; these seconds later the app is asked for its head.
    Twice(Ask, u64),
    /// Background fetches that were put off are done.
    Settle,
    /// Seconds pass.
    Pass(u64),
    /// Somebody sets the cache's wall clock: so many seconds from the true time.
    SetClock(i64),
    /// From now on the app's answers are so old.
    Aged(u64),
    /// The text of a path changes.
    Change(u8),
    /// It changes by a request through the proxy.
    Post(u8),
    /// Everything is purged, or marked stale.
    Purge {
        soft: bool,
    },
    Fail(Failing),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    Nothing,
    Change,
    Post,
    Purge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    No,
    With503,
    Unreachable,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Ask {
    pub head: bool,
    pub path: u8,
    /// Into [`ENCODINGS`].
    pub encoding: usize,
    /// Into [`LANGUAGES`].
    pub language: usize,
    pub control: Control,
    pub held: Held,
    /// Whether a background fetch that it causes is put off.
    pub later: bool,
}

/// `Cache-Control` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    None,
    NoCache,
    MaxAge(u64),
    MaxStale(u64),
    MinFresh(u64),
}

/// What the client does with a copy that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Nothing,
    /// Asks whether the copy is good.
    Confirm {
        copy: usize,
        by_tag: bool,
    },
    /// Asks for the rest of it.
    Resume {
        copy: usize,
        by_tag: bool,
    },
    /// Asks for a part of whatever there is.
    Part,
}

/// `Accept-Encoding`, and the codings that it accepts, best first.
pub const ENCODINGS: [(Option<&str>, &[&str]); 9] = [
    (None, &[]),
    (Some("gzip"), &["gzip"]),
    (Some("br, gzip"), &["br", "gzip"]),
    (Some("gzip,br"), &["br", "gzip"]),
    (Some("br"), &["br"]),
    (Some("identity"), &[]),
    (Some("gzip;q=0, br;q=0.5"), &["br"]),
    (Some("gzip;q=0"), &[]),
    (Some("*;q=0, identity"), &[]),
];

/// `Accept-Language`, and the language that the app gives for it.
pub const LANGUAGES: [(Option<&str>, &str); 6] =
    [(None, "en"), (Some("en"), "en"), (Some("de"), "de"), (Some("de, en;q=0.5"), "de"), (Some("en, de"), "en"), (Some("fr"), "en")];

impl Ask {
    pub fn method(&self) -> Method {
        if self.head { Method::HEAD } else { Method::GET }
    }

    pub fn path(&self) -> String {
        format!("/{}", self.path)
    }
}

/// A cache and what is around it.
pub trait Way {
    /// Sends a request and gives the answer whole. `app` is asked as the cache wills.
    fn ask(&mut self, app: &mut App, asked: &Asked) -> Answer;

    /// Lets the app answer the first request, holds that answer back while half of the others ask, something happens, and the
    /// other half asks, and then lets it go on. Each answer with the number of events before its request. Empty where the way
    /// cannot do so.
    fn overlap(&mut self, app: &mut App, asks: &[Asked], meanwhile: &mut dyn FnMut(&mut App, &mut Self)) -> Vec<(u64, Answer)>;

    /// Does the background fetches that were put off.
    fn settle(&mut self, app: &mut App);

    /// Lets seconds pass, if it can.
    fn pass(&mut self, app: &mut App, seconds: u64);

    /// A successful change by way of the proxy.
    fn post(&mut self, app: &mut App, path: u8);

    fn purge(&mut self, soft: bool);

    /// Sets the wall clock, if the way has one of its own.
    fn set_clock(&mut self, _seconds: i64) {}
}

/// Runs the sequence.
///
/// # Errors
/// What a client got and should not have got.
pub fn run(habits: &Habits, steps: &[Step], begin: u64, way: &mut impl Way) -> Result<(), String> {
    run_with(habits, steps, begin, 0, way)
}

/// The same where time is known only to `slack` seconds.
///
/// # Errors
/// What a client got and should not have got.
pub fn run_with(habits: &Habits, steps: &[Step], begin: u64, slack: u64, way: &mut impl Way) -> Result<(), String> {
    let (mut app, mut client) = (App::new(habits.clone(), begin), Client::default());
    app.slack = slack;
    for (at, step) in steps.iter().enumerate() {
        one(&mut app, &mut client, step, way).map_err(|why| format!("step {at}, {step:?}: {why}"))?;
    }
    Ok(())
}

/// The same to the end, whatever goes wrong on the way: all that a client should not have got.
pub fn run_on(habits: &Habits, steps: &[Step], begin: u64, slack: u64, way: &mut impl Way) -> Vec<String> {
    let (mut app, mut client) = (App::new(habits.clone(), begin), Client::default());
    app.slack = slack;
    steps.iter().filter_map(|step| one(&mut app, &mut client, step, way).err()).collect()
}

fn one(app: &mut App, client: &mut Client, step: &Step, way: &mut impl Way) -> Result<(), String> {
    match step {
        Step::Ask(ask) => send(app, client, way, ask.clone()).map(drop),
        Step::Overlap(leader, others, meanwhile) => {
            let asks = std::iter::once(leader).chain(others).map(|ask| Ask { path: leader.path, ..ask.clone() });
            let asks: Vec<Asked> = asks.filter_map(|ask| client.request(app, &ask)).collect();
            let answers = way.overlap(app, &asks, &mut |app, way| happen(app, *meanwhile, leader.path, way));
            answers.iter().zip(&asks).try_for_each(|((begun, answer), asked)| client.check(app, asked, *begun, answer))
        }
        Step::Head(ask) => head_between(app, client, ask, way),
        Step::Twice(ask, seconds) => {
            app.change(ask.path);
            send(app, client, way, Ask { head: false, control: Control::NoCache, held: Held::Nothing, ..ask.clone() })?;
            app.change(ask.path);
            way.pass(app, *seconds);
            head_between(app, client, ask, way)
        }
        Step::Settle => {
            way.settle(app);
            Ok(())
        }
        Step::Pass(seconds) => {
            way.pass(app, *seconds);
            Ok(())
        }
        Step::SetClock(seconds) => {
            app.dates_count = *seconds == 0;
            way.set_clock(*seconds);
            Ok(())
        }
        Step::Aged(seconds) => {
            app.age = *seconds;
            Ok(())
        }
        Step::Change(path) => {
            app.change(*path);
            Ok(())
        }
        Step::Post(path) => {
            happen(app, Meanwhile::Post, *path, way);
            Ok(())
        }
        Step::Purge { soft } => {
            way.purge(*soft);
            if !soft {
                app.forget_all();
            }
            Ok(())
        }
        Step::Fail(failing) => {
            app.failing = *failing;
            Ok(())
        }
    }
}

/// The text of an answer, if it is whole, and whether it came without the app.
type Came = Option<(app::Shape, bool)>;

fn send(app: &mut App, client: &mut Client, way: &mut impl Way, ask: Ask) -> Result<Came, String> {
    let Some(asked) = client.request(app, &ask) else { return Ok(None) };
    let begun = app.events();
    let answer = way.ask(app, &asked);
    client.check(app, &asked, begun, &answer)?;
    Ok(app.shape_of(&answer).map(|shape| (shape, app.events() == begun)))
}

fn head_between(app: &mut App, client: &mut Client, ask: &Ask, way: &mut impl Way) -> Result<(), String> {
    let get = Ask { head: false, control: Control::None, held: Held::Nothing, later: false, ..ask.clone() };
    let before = send(app, client, way, get.clone())?;
    send(app, client, way, Ask { head: true, control: Control::NoCache, ..get.clone() })?;
    let after = send(app, client, way, get)?;
    match (before, after) {
        (Some((shape, true)), Some((_, false))) if app.is_current(shape) && app.gives_fresh(shape) && app.head_keeps(shape, ask) => {
            Err(format!("HEAD has taken away {shape:?}, which is as it was"))
        }
        _ => Ok(()),
    }
}

fn happen<W: Way + ?Sized>(app: &mut App, what: Meanwhile, path: u8, way: &mut W) {
    match what {
        Meanwhile::Nothing => {}
        Meanwhile::Change => app.change(path),
        Meanwhile::Post => {
            app.change(path);
            way.post(app, path);
            app.forget(path);
        }
        Meanwhile::Purge => {
            way.purge(false);
            app.forget_all();
        }
    }
}

/// Any habits.
pub fn habits() -> impl Strategy<Value = Habits> {
    let vary = prop_oneof![2 => Just(Vary::Encoding), 1 => Just(Vary::Unsaid), 1 => Just(Vary::Language), 1 => Just(Vary::Both)];
    let tags = prop_oneof![Just(Tags::None), Just(Tags::Exact), Just(Tags::Weak), Just(Tags::Nginx), Just(Tags::Shared), Just(Tags::Loose)];
    let hears = prop_oneof![3 => Just(Hears::TagsAndDates), 1 => Just(Hears::Dates), 1 => Just(Hears::Nothing)];
    let head = prop_oneof![Just(Head::Everything), Just(Head::Little), Just(Head::Identity)];
    let life = prop_oneof![
        3 => (0..60u64).prop_map(Life::MaxAge),
        1 => (-30..30i64).prop_map(Life::Expires),
        1 => (1..60u64).prop_map(Life::Forced),
        1 => Just(Life::Unsaid),
    ];
    let window = || prop_oneof![2 => Just(None), 1 => (1..90u64).prop_map(Some)];
    let flags =
        (any::<bool>(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.25), prop::bool::weighted(0.1), any::<bool>(), any::<bool>());
    (vary, tags, hears, head, life, window(), window(), flags).prop_map(
        |(
            vary,
            tags,
            hears,
            head,
            life,
            stale_while_revalidate,
            stale_if_error,
            (dated, tag_in_304, ranges, must_revalidate, no_cache, one_length, narrow_304),
        )| Habits {
            vary,
            tags,
            dated,
            hears,
            tag_in_304,
            narrow_304,
            head,
            ranges,
            life,
            stale_while_revalidate,
            stale_if_error,
            must_revalidate,
            no_cache,
            one_length,
        },
    )
}

fn ask() -> impl Strategy<Value = Ask> {
    let control = prop_oneof![
        8 => Just(Control::None),
        1 => Just(Control::NoCache),
        1 => (0..60u64).prop_map(Control::MaxAge),
        1 => (0..120u64).prop_map(Control::MaxStale),
        1 => (0..30u64).prop_map(Control::MinFresh),
    ];
    let held = prop_oneof![
        6 => Just(Held::Nothing),
        1 => (0..4usize, any::<bool>()).prop_map(|(copy, by_tag)| Held::Confirm { copy, by_tag }),
        1 => (0..4usize, any::<bool>()).prop_map(|(copy, by_tag)| Held::Resume { copy, by_tag }),
        1 => Just(Held::Part),
    ];
    (prop::bool::weighted(0.15), 0..2u8, 0..ENCODINGS.len(), 0..LANGUAGES.len(), control, held, any::<bool>())
        .prop_map(|(head, path, encoding, language, control, held, later)| Ask { head, path, encoding, language, control, held, later })
}

fn step() -> impl Strategy<Value = Step> {
    let meanwhile =
        prop_oneof![2 => Just(Meanwhile::Nothing), 1 => Just(Meanwhile::Change), 1 => Just(Meanwhile::Post), 1 => Just(Meanwhile::Purge)];
    let failing = prop_oneof![3 => Just(Failing::No), 1 => Just(Failing::With503), 1 => Just(Failing::Unreachable)];
    prop_oneof![
        16 => ask().prop_map(Step::Ask),
        3 => (ask(), prop::collection::vec(ask(), 1..4), meanwhile).prop_map(|(leader, others, meanwhile)| Step::Overlap(leader, others, meanwhile)),
        1 => ask().prop_map(Step::Head),
        3 => (ask(), 0..40u64).prop_map(|(ask, seconds)| Step::Twice(ask, seconds)),
        1 => Just(Step::Settle),
        5 => (0..40u64).prop_map(Step::Pass),
        1 => prop_oneof![Just(0), -4_000..4_000i64].prop_map(Step::SetClock),
        2 => (0..60u64).prop_map(Step::Aged),
        3 => (0..2u8).prop_map(Step::Change),
        1 => (0..2u8).prop_map(Step::Post),
        1 => any::<bool>().prop_map(|soft| Step::Purge { soft }),
        1 => failing.prop_map(Step::Fail),
    ]
}

/// Any sequence.
pub fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 2..most)
}
