//! `outrigger mock`: a provider for local work, tests and load that speaks OpenAI's, Anthropic's and Gemini's wire formats.
//!
//! It gives the same answer to the same question, counts tokens in a way that both sides can know, bills its answers in books
//! of its own, and fails on request: by the request header `x-mock-fault`, by a script (`POST /mock/script`), or by chance
//! (`fail_rate`). The grammar of faults is in [`Fault`]'s module.
//!
//! | control | |
//! |---|---|
//! | `POST /mock/script` | a JSON list of faults, one for each of the next calls; replaces the waiting ones |
//! | `GET /mock/books` | the bills: [`Books`] |
//! | `GET /mock/requests` | the last requests: [`Seen`] |
//! | `POST /mock/reset` | forget all of it |

mod answer;
mod anthropic;
mod api;
mod books;
mod call;
mod control;
mod errors;
mod faults;
mod gemini;
mod ledger;
mod openai;
mod prompts;
mod server;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    future::Future,
    io::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::said::{Common, Failure, Said};
use crate::clock::Clock;

pub use books::{Books, Line, OTHERS, usd};
pub use faults::{Fault, UnknownFault};
pub use ledger::Seen;
pub use wire::Transport;

use ledger::Ledger;

/// Most tokens of one answer.
const MOST_TOKENS: u32 = 100_000;

/// Models that are listed; every name is answered.
const MODELS: &[&str] = &[
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "claude-sonnet-4-5",
    "claude-haiku-4-5",
    "gemini-2.5-flash",
];

/// The mock's answers to calls without a wish or fault of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Time to the first byte of an answer.
    pub latency: Duration,
    /// Speed of streams (and the length of the wait for whole answers); 0: at once.
    pub tokens_per_second: u32,
    /// Tokens of an answer; the request's own maximum cuts it.
    pub answer_tokens: u32,
    /// Tokens in one piece of a stream.
    pub chunk_tokens: u32,
    /// An idle connection is closed after this time; `None`: never.
    pub idle_close: Option<Duration>,
    /// Share of calls, 0 to 1, that fail as overloaded.
    pub fail_rate: f64,
    /// Seed of the chance behind `fail_rate`.
    pub seed: u64,
    /// Answer with the prompt's own words.
    pub echo: bool,
    /// Requests kept for `/mock/requests`; 0: none, which is fastest.
    pub remember: usize,
}

impl Default for Options {
    /// At once, 24 tokens, no failures; idle connections are closed after 5 s as providers do.
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            tokens_per_second: 0,
            answer_tokens: 24,
            chunk_tokens: 1,
            idle_close: Some(Duration::from_secs(5)),
            fail_rate: 0.0,
            seed: 0,
            echo: false,
            remember: 100,
        }
    }
}

/// A mock provider. Clones are the same provider.
#[derive(Clone)]
pub struct Mock {
    ledger: Arc<Ledger>,
    listener: Option<Arc<TcpListener>>,
    addr: SocketAddr,
}

impl Mock {
    /// Opens the port (0: any); connections wait until [`run`](Self::run).
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(addr: SocketAddr, options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self { listener: Some(Arc::new(listener)), addr, ..Self::unbound(options) })
    }

    /// A mock without a port, for [`serve`](Self::serve) alone; its address is `0.0.0.0:0`.
    pub fn unbound(options: Options) -> Self {
        Self { ledger: Ledger::new(options, Clock::system()), listener: None, addr: SocketAddr::from(([0, 0, 0, 0], 0)) }
    }

    /// The bound address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown`; then connections are cut, not drained.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        match &self.listener {
            Some(listener) => server::run(listener, &self.ledger, shutdown).await,
            None => shutdown.await,
        }
    }

    /// Serves one connection, such as an in-memory pipe, to its end.
    pub async fn serve(&self, connection: impl Transport) {
        server::serve(connection, self.ledger.clone()).await;
    }

    /// The bills so far, without answers under way.
    pub fn books(&self) -> Books {
        self.ledger.books.lock().clone()
    }

    /// The last requests, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        self.ledger.seen()
    }

    /// Sets the faults of the next calls, one each; replaces waiting ones. A call with a fault of its own uses none.
    ///
    /// # Errors
    /// One of them is not a fault; nothing changes then.
    pub fn script<'a>(&self, faults: impl IntoIterator<Item = &'a str>) -> Result<(), UnknownFault> {
        let faults: Vec<Fault> = faults.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        self.ledger.script.lock().set(faults);
        Ok(())
    }

    /// Forgets books, script, requests and prompt caches.
    pub fn reset(&self) {
        self.ledger.reset();
    }
}

/// A credential as books and requests show it: enough to tell credentials apart, not to use them.
pub fn hash_credential(credential: &str) -> String {
    if credential.is_empty() {
        return "(none)".to_owned();
    }
    blake3::hash(credential.as_bytes()).to_hex()[..16].to_owned()
}

/// `outrigger mock`.
#[derive(Debug, Clone, clap::Args)]
pub struct MockArgs {
    /// Where to listen; port 0 takes any.
    #[arg(long, default_value = "127.0.0.1:9100")]
    pub listen: SocketAddr,
    /// Time to the first byte of every answer.
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    pub latency: Duration,
    /// Speed of answers; 0 is at once.
    #[arg(long, default_value_t = 0)]
    pub tokens_per_second: u32,
    /// Tokens of an answer.
    #[arg(long, default_value_t = 24)]
    pub answer_tokens: u32,
    /// Tokens in one piece of a stream.
    #[arg(long, default_value_t = 1)]
    pub chunk_tokens: u32,
    /// Idle connections are closed after this time; 0s is never.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub idle_close: Duration,
    /// Share of calls, 0 to 1, that fail as overloaded.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub fail_rate: f64,
    /// Seed of that chance.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Answer with the prompt's own words.
    #[arg(long)]
    pub echo: bool,
    /// How many requests are kept for GET /mock/requests.
    #[arg(long, default_value_t = 100)]
    pub remember: usize,
}

/// Serves until Ctrl-C.
///
/// # Errors
/// When the address cannot be bound.
pub async fn run(common: &Common, args: MockArgs) -> Result<Said, Failure> {
    let options = Options {
        latency: args.latency,
        tokens_per_second: args.tokens_per_second,
        answer_tokens: args.answer_tokens,
        chunk_tokens: args.chunk_tokens,
        idle_close: (!args.idle_close.is_zero()).then_some(args.idle_close),
        fail_rate: args.fail_rate,
        seed: args.seed,
        echo: args.echo,
        remember: args.remember,
    };
    let listen = args.listen;
    let mock = Mock::bind(listen, options).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let addr = mock.addr();
    let base = format!("http://{addr}");
    let listening = json!({"listening": addr, "openai_base_url": format!("{base}/v1"), "anthropic_base_url": base});
    let text = format!(
        "mock provider on {base}\n  OPENAI_BASE_URL={base}/v1  ANTHROPIC_BASE_URL={base}\n  \
         books: GET /mock/books   faults: POST /mock/script [\"503\", \"429;retry-after=1\"]"
    );
    // Each text is written when it is known, with --json one line each; a missing reader is no error.
    let say = |json: Value, text: String| {
        let line = if common.json { json.to_string() } else { text };
        let _ = writeln!(io::stdout(), "{line}");
    };
    say(listening, text);
    mock.run(async {
        // Without a signal handler the signal ends the process, which is an end too.
        let _ = tokio::signal::ctrl_c().await;
    })
    .await;
    let books = mock.books().to_json();
    let text = format!("billed: {books}");
    say(json!({ "billed": books }), text);
    Ok(Said::nothing())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "a number from 0 to 1 is wanted".to_owned())
}
