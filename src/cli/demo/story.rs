//! Sends traffic through both doors and tells the story. Every number in it was measured. An expected event that did not happen
//! is told too, and is an error.

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::{
    cli::{
        client::{Answer, Client, ClientError},
        mock::{Books, Mock, UnknownFault, usd},
    },
    clock::Clock,
};

use super::app::DemoApp;

const CHAT: &str = "/openai/v1/chat/completions";

/// Most requests sent while an event is awaited.
const PATIENCE: u32 = 20;

/// Why the story could not be told as expected.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// No answer came.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The story could not be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// A fault for the mock is not valid.
    #[error(transparent)]
    Fault(#[from] UnknownFault),
    /// Expected events that did not happen.
    #[error("not as expected: {}", .0.join("; "))]
    Unexpected(Vec<String>),
}

/// Tells the story of both doors, in about ten seconds. The proxy runs with [`super::setting::CONFIG`].
///
/// # Errors
/// An expected event did not happen (the story is told to its end all the same), or there is no answer.
pub async fn tell(
    inbound: SocketAddr,
    outbound: SocketAddr,
    admin: SocketAddr,
    mock: &Mock,
    app: &DemoApp,
    out: &mut dyn Write,
) -> Result<(), StoryError> {
    let model = Client::tcp(outbound).with_header("authorization", "Bearer sk-demo-app");
    let mut teller = Teller { inbound, model, admin: Client::tcp(admin), mock, app, out, unexpected: Vec::new() };
    teller.cached_page().await?;
    teller.cached_model_call().await?;
    teller.limit().await?;
    teller.retry().await?;
    teller.breaker().await?;
    teller.stream().await?;
    teller.spend().await?;
    if teller.unexpected.is_empty() { Ok(()) } else { Err(StoryError::Unexpected(teller.unexpected)) }
}

struct Teller<'a> {
    inbound: SocketAddr,
    model: Client,
    admin: Client,
    mock: &'a Mock,
    app: &'a DemoApp,
    out: &'a mut dyn Write,
    unexpected: Vec<String>,
}

impl Teller<'_> {
    async fn cached_page(&mut self) -> Result<(), StoryError> {
        self.chapter("A page from the cache")?;
        let alice = self.user("alice");
        let made = self.app.listed();
        let first = alice.get("/api/products").await?;
        self.say(format!("first GET /api/products   {}  made by the app  [{}]", ms(first.took), cache_status(&first)))?;
        self.expect(first.status == 200 && self.app.listed() == made + 1, "the first request is answered by the app")?;
        let second = alice.get("/api/products").await?;
        self.say(format!("the same again            {}  the app heard nothing  [{}]", ms(second.took), cache_status(&second)))?;
        self.expect(is_hit(&second), "Cache-Status says hit")?;
        self.expect(second.body == first.body && self.app.listed() == made + 1, "the same bytes, without asking the app")?;
        self.expect(second.took < first.took, "a hit is faster than the app")?;
        let added = alice.post("/api/products", &json!({"name": "dinghy"})).await?;
        self.expect(added.status == 201, "a product can be added")?;
        let third = alice.get("/api/products").await?;
        self.say(format!("after POST (which purges) {}  made by the app  [{}]", ms(third.took), cache_status(&third)))?;
        self.expect(third.text().contains("dinghy"), "the list is new after a product was added")
    }

    async fn cached_model_call(&mut self) -> Result<(), StoryError> {
        self.chapter("A model call from the cache")?;
        let before = self.mock.books();
        let body = question("Which knot holds best in the rain?");
        let first = self.model.post(CHAT, &body).await?;
        let paid = self.mock.books();
        self.say(format!(
            "first call      {}  the provider billed ${}  [{}]",
            ms(first.took),
            billed(&before, &paid),
            cache_status(&first)
        ))?;
        let second = self.model.post(CHAT, &body).await?;
        let after = self.mock.books();
        self.say(format!(
            "the same again  {}  the provider billed ${}  [{}]",
            ms(second.took),
            billed(&paid, &after),
            cache_status(&second)
        ))?;
        self.expect(first.status == 200 && paid.requests == before.requests + 1, "the first call is answered by the provider")?;
        self.expect(is_hit(&second) && second.body == first.body, "the second is the same answer from the cache")?;
        self.expect(after.requests == paid.requests, "the provider heard nothing of it")
    }

    async fn limit(&mut self) -> Result<(), StoryError> {
        self.chapter("A limit: 5 visits in 3 seconds for each user")?;
        let dave = self.user("dave");
        let mut admitted = 0;
        let refused = loop {
            let answer = dave.get("/").await?;
            if answer.status == 200 && admitted < PATIENCE {
                admitted += 1;
            } else {
                break answer;
            }
        };
        let wait = refused.retry_after(Clock::system().wall());
        let told = wait.map_or("none".to_owned(), |wait| format!("{} s", wait.as_secs()));
        self.say(format!("dave: {admitted} visits, then {}  Retry-After: {told}", refused.status))?;
        self.expect(admitted == 5 && refused.status == 429, "the sixth visit is refused with 429")?;
        let other = self.user("erin").get("/").await?;
        self.say(format!("erin, meanwhile: {}", other.status))?;
        self.expect(other.status == 200, "another user is not refused")?;
        if let Some(wait) = wait.filter(|wait| *wait < Duration::from_secs(10)) {
            tokio::time::sleep(wait).await;
            let again = dave.get("/").await?;
            self.say(format!("dave, after waiting {told}: {}", again.status))?;
            return self.expect(again.status == 200, "Retry-After was true");
        }
        self.expect(false, "the refusal carries a Retry-After of seconds")
    }

    async fn retry(&mut self) -> Result<(), StoryError> {
        self.chapter("A retry: the provider answers 503, 503, 200")?;
        let before = self.mock.books();
        self.mock.script(["503", "503"])?;
        let answer = self.model.post(CHAT, &question("What does a lighthouse dream of?")).await?;
        let after = self.mock.books();
        self.mock.script([])?;
        let tries = after.requests - before.requests;
        let pauses = "pauses of 200 and 400 ms asked for";
        self.say(format!("the app sees one {} after {}; the provider saw {tries} tries ({pauses})", answer.status, ms(answer.took)))?;
        self.expect(answer.status == 200 && tries == 3, "three tries become one 200")?;
        self.expect(answer.took >= Duration::from_millis(600), "the pauses are kept")
    }

    async fn breaker(&mut self) -> Result<(), StoryError> {
        self.chapter("A circuit breaker: the app's /flaky fails")?;
        let alice = self.user("alice");
        self.app.flaky(&[], 503);
        let before = self.app.flaky_calls();
        let mut sent = 0;
        let open = loop {
            let answer = alice.get("/flaky").await?;
            sent += 1;
            if is_open(&answer) || sent >= PATIENCE {
                break answer;
            }
        };
        let failures = self.app.flaky_calls() - before;
        self.say(format!(
            "after {failures} failures it opens: request {sent} is answered {} in {} [{}]",
            open.status,
            ms(open.took).trim(),
            reason(&open)
        ))?;
        self.expect(is_open(&open) && failures == 5, "five failures open it")?;
        let heard = self.app.flaky_calls();
        let refused = alice.get("/flaky").await?;
        let wait = refused.retry_after(Clock::system().wall());
        let told = wait.map_or("none".to_owned(), |wait| format!("{} s", wait.as_secs()));
        self.say(format!(
            "while it is open: {} in {}, the app is left alone, Retry-After: {told}",
            refused.status,
            ms(refused.took).trim()
        ))?;
        self.expect(is_open(&refused) && self.app.flaky_calls() == heard, "an open breaker answers without the app")?;
        self.app.flaky(&[], 200);
        let opened = Clock::system().now();
        tokio::time::sleep(wait.unwrap_or_default().min(Duration::from_secs(5))).await;
        let mut probes = 0;
        let mut closed = false;
        while probes < PATIENCE && !closed {
            probes += 1;
            closed = alice.get("/flaky").await?.status == 200;
            if !closed {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        self.say(format!("the app is well again; {} later a probe succeeds and it closes", ms(opened.elapsed()).trim()))?;
        let mut well = 0;
        for _ in 0..3 {
            well += u32::from(alice.get("/flaky").await?.status == 200);
        }
        self.say(format!("the next 3 requests: {well} times 200"))?;
        self.expect(closed && well == 3, "a successful probe closes it")
    }

    async fn stream(&mut self) -> Result<(), StoryError> {
        self.chapter("A streamed answer")?;
        let mut body = question("Tell of the tide.");
        body["stream"] = json!(true);
        let client = self.model.clone().with_header("x-mock-fault", "tokens=24;rate=40");
        let mut stream = client.open(Method::POST, CHAT, Bytes::from(body.to_string())).await?;
        let mut text = String::new();
        let mut pieces = 0;
        let mut first = None;
        while let Some(piece) = stream.next().await? {
            pieces += 1;
            let piece = String::from_utf8_lossy(&piece);
            if first.is_none() && piece.contains("\"content\":\"") && !said(&piece).is_empty() {
                first = Some(stream.elapsed());
            }
            text.push_str(&piece);
        }
        let took = stream.elapsed();
        let first = first.unwrap_or(took);
        self.say(format!("\"{} ...\"", said(&text).chars().take(60).collect::<String>()))?;
        self.say(format!("first token after {}, the last after {}, in {pieces} pieces as they came", ms(first).trim(), ms(took).trim()))?;
        self.expect(stream.status == 200 && text.contains("data: [DONE]"), "the stream comes to its end")?;
        self.expect(pieces >= 10 && first < took / 2, "pieces pass as they come")
    }

    async fn spend(&mut self) -> Result<(), StoryError> {
        self.chapter("Dollars per user of the app")?;
        let before = self.mock.books();
        for (user, prompt) in
            [("alice", "Plan my week."), ("alice", "Shorter."), ("bob", "Any mail?"), ("alice", "Thank you, and a good night to you.")]
        {
            let answer = self.user(user).post("/chat", &json!({"prompt": prompt})).await?;
            self.expect(answer.status == 200, &format!("the app answers {user} ({})", answer.status))?;
        }
        let after = self.mock.books();
        let provider = billed(&before, &after);
        let mut known = self.spent().await?;
        for _ in 0..PATIENCE {
            if !known["callers"].is_array() || calls(&known, "alice") >= 3 && calls(&known, "bob") >= 1 {
                break;
            }
            // An exchange is booked at its end, perhaps a moment after its last byte.
            tokio::time::sleep(Duration::from_millis(100)).await;
            known = self.spent().await?;
        }
        let mut sum = 0;
        for user in ["alice", "bob"] {
            let cost = line(&known, user).and_then(|line| line["cost_usd"].as_str()).unwrap_or("unknown").to_owned();
            sum += nano(&cost).unwrap_or_default();
            let made = calls(&known, user);
            self.say(format!("{user:<6} {made} {:<5}  ${cost}", if made == 1 { "call" } else { "calls" }))?;
        }
        self.say(format!("the proxy counted ${}, the provider billed ${provider} for the same calls", usd(sum)))?;
        self.expect(calls(&known, "alice") == 3 && calls(&known, "bob") == 1, "each model call is laid to the user who caused it")?;
        self.expect(sum > 0 && usd(sum) == provider, "both books agree")
    }

    async fn spent(&self) -> Result<Value, StoryError> {
        let answer = self.admin.get("/api/spend").await?;
        Ok(answer.json().unwrap_or_default())
    }

    fn user(&self, name: &str) -> Client {
        Client::tcp(self.inbound).with_header("x-user-id", name)
    }

    fn chapter(&mut self, title: &str) -> io::Result<()> {
        writeln!(self.out, "\n{title}")
    }

    fn say(&mut self, text: String) -> io::Result<()> {
        writeln!(self.out, "  {text}")
    }

    fn expect(&mut self, happened: bool, what: &str) -> Result<(), StoryError> {
        if !happened {
            writeln!(self.out, "  NOT AS EXPECTED: {what}")?;
            self.unexpected.push(what.to_owned());
        }
        Ok(())
    }
}

fn question(text: &str) -> Value {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]})
}

fn ms(duration: Duration) -> String {
    format!("{:>7.1} ms", duration.as_secs_f64() * 1e3)
}

fn cache_status(answer: &Answer) -> String {
    format!("Cache-Status: {}", answer.header("cache-status").unwrap_or("none"))
}

/// Whether a member of the list has the parameter `hit` (RFC 9211).
fn is_hit(answer: &Answer) -> bool {
    answer.header("cache-status").is_some_and(|status| status.split([';', ',']).any(|part| part.trim() == "hit"))
}

fn reason(answer: &Answer) -> String {
    answer.json().ok().and_then(|body| body["reason"].as_str().map(str::to_owned)).unwrap_or_else(|| "no reason".to_owned())
}

fn is_open(answer: &Answer) -> bool {
    answer.status == 503 && reason(answer) == "breaker_open"
}

/// The amount billed between two readings of the books, in dollars.
fn billed(before: &Books, after: &Books) -> String {
    usd(after.total.nano_usd.saturating_sub(before.total.nano_usd))
}

/// The text of a chat stream, or of a piece of one.
fn said(events: &str) -> String {
    let data = events.lines().filter_map(|line| line.strip_prefix("data: ")).filter_map(|data| serde_json::from_str::<Value>(data).ok());
    data.filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

fn line<'a>(spend: &'a Value, caller: &str) -> Option<&'a Value> {
    spend["callers"].as_array()?.iter().find(|line| line["caller"] == caller)
}

fn calls(spend: &Value, caller: &str) -> u64 {
    line(spend, caller).and_then(|line| line["calls"].as_u64()).unwrap_or(0)
}

/// Dollars as text in nano-USD; `None` if it is not an amount with at most nine decimals.
fn nano(usd: &str) -> Option<u64> {
    let (whole, part) = usd.split_once('.').unwrap_or((usd, ""));
    if part.len() > 9 {
        return None;
    }
    let part: u64 = format!("{part:0<9}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::mock::Options;

    #[test]
    fn money_is_read_exactly() {
        assert_eq!(nano("0.0012"), Some(1_200_000));
        assert_eq!(nano("3"), Some(3_000_000_000));
        assert_eq!(nano(&usd(123_456_789_012)), Some(123_456_789_012));
        assert_eq!((nano("unknown"), nano("0.0000000001"), nano("1.-5")), (None, None, None));
    }

    /// Without a proxy no part of the story happens, and the story must say so.
    #[tokio::test]
    async fn a_story_that_did_not_happen_is_an_error() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mock = Mock::bind(any, Options::default()).await.unwrap();
        let app = DemoApp::bind(any, format!("http://{}/v1", mock.addr()).parse().unwrap()).await.unwrap();
        let (model, served) = (mock.clone(), app.clone());
        tokio::spawn(async move { model.run(std::future::pending()).await });
        tokio::spawn(async move { served.run(std::future::pending()).await });
        let mut told = Vec::new();
        let told_all = tokio::time::timeout(Duration::from_secs(20), tell(app.addr(), mock.addr(), mock.addr(), &mock, &app, &mut told));
        let Err(StoryError::Unexpected(unexpected)) = told_all.await.unwrap() else { panic!("the story was told") };
        for missing in
            ["Cache-Status says hit", "the sixth visit is refused with 429", "three tries become one 200", "five failures open it"]
        {
            assert!(unexpected.iter().any(|text| text == missing), "{missing} is missing in {unexpected:?}");
        }
        assert!(String::from_utf8(told).unwrap().contains("NOT AS EXPECTED"));
    }
}
