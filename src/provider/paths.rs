//! Every path of the model APIs that the proxy knows, and how the provider bills it. The table is closed: a request that may start
//! work and has no row may cost money, and no limit on dollars lets it pass.
//!
//! A row names the last segments of a path: a base path may stand in front of them. The first row that fits counts. Sources: the API
//! references of OpenAI, Anthropic, the Gemini API, Vertex AI and Amazon Bedrock, and the paths of their SDKs.

use std::{fmt::Write, sync::LazyLock};

use http::Method;
use percent_encoding::percent_decode_str;

use super::session::Session;
use crate::config::{Api, Operation};

/// The meaning of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// A model call in this wire format. Its own answer states its usage.
    Call(Api, Operation),
    /// A model call whose answer surely streams.
    Stream(Api, Operation),
    /// The request counts, changes, stores or ends something, and starts no work. The text says what.
    Free(&'static str),
    /// The request counts tokens; its body has the form of a call in this wire format.
    Counts(Api),
    /// Text is judged: free for OpenAI's models, of unknown cost for others.
    Judges,
    /// The request asks about one response, the last `{id}` of the path, which may be made in the background.
    Polls,
    /// The request deletes one response, the last `{id}`: no later answer states its usage.
    Forgets,
    /// The request uploads a file, which may be the requests of a batch.
    Uploads,
    /// The request creates a batch in this wire format.
    Batches(Api),
    /// The request asks about one batch, the last `{id}`, or ends it.
    AsksBatch,
    /// The request lists batches.
    ListsBatches,
    /// The request fetches the results of one batch, the last `{id}`.
    Results,
    /// The request fetches one file, the last `{id}`, which may be the results of a batch.
    Content,
    /// The request starts work whose cost no answer over this connection states. The text names the work.
    Work(&'static str),
}

/// The methods of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Post,
    /// PUT and PATCH.
    Change,
    /// GET and HEAD.
    Get,
    Delete,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    verb: Verb,
    /// The provider's own API; `None`: any, because providers offer each other's.
    pub at: Option<Api>,
    /// The last segments. `{name}` is any segment; `{name}:verb` is Google's form of a call.
    pub path: &'static str,
    /// The meaning.
    pub means: Means,
}

const fn post(path: &'static str, means: Means) -> Row {
    Row { verb: Verb::Post, at: None, path, means }
}

const fn change(path: &'static str, means: Means) -> Row {
    Row { verb: Verb::Change, at: None, path, means }
}

const fn get(path: &'static str, means: Means) -> Row {
    Row { verb: Verb::Get, at: None, path, means }
}

const fn delete(path: &'static str, means: Means) -> Row {
    Row { verb: Verb::Delete, at: None, path, means }
}

const fn at(api: Api, row: Row) -> Row {
    Row { at: Some(api), ..row }
}

const fn call(operation: Operation) -> Means {
    Means::Call(Api::OpenAi, operation)
}

const BATCH: Means = Means::Work("a batch");
const VIDEO: Means = Means::Work("a video");
const TUNING: Means = Means::Work("a tuning job");
const RUN: Means = Means::Work("a run of an assistant or an evaluation");
const SESSION: Means = Means::Work("a Realtime session");
const AGENT: Means = Means::Work("a managed agent");
const CONTAINER: Means = Means::Work("a container");
const CACHED: Means = Means::Work("a stored prompt");

const ENDS: Means = Means::Free("ends work");
const COUNTS: Means = Means::Free("counts tokens");
const STORES: Means = Means::Free("stores a file: free, or priced by the day");
const RECORDS: Means = Means::Free("writes a record, without a run");
const WAITS: Means = Means::Free("waits for work");

use Api::{Anthropic, Bedrock, Gemini};

/// All rows.
pub static ROWS: &[Row] = &[
    // Calls.
    post("chat/completions", call(Operation::Chat)),
    post("completions", call(Operation::Completions)),
    post("responses", call(Operation::Responses)),
    // A compaction is one pass over the conversation: its answer has the usage of a response.
    post("responses/compact", call(Operation::Responses)),
    post("embeddings", call(Operation::Embeddings)),
    post("images/generations", call(Operation::Images)),
    post("images/edits", call(Operation::Images)),
    post("images/variations", call(Operation::Images)),
    post("audio/speech", call(Operation::Audio)),
    post("audio/transcriptions", call(Operation::Audio)),
    post("audio/translations", call(Operation::Audio)),
    // OpenAI's Assistants API has messages too.
    post("threads/{id}/messages", RECORDS),
    post("threads/{id}/messages/{id}", RECORDS),
    post("messages", Means::Call(Anthropic, Operation::Messages)),
    post("messages/count_tokens", Means::Counts(Anthropic)),
    post("uploads/{id}/complete", STORES),
    at(Anthropic, post("complete", Means::Call(Anthropic, Operation::Completions))),
    at(Gemini, post("models/{model}:generateContent", Means::Call(Gemini, Operation::Chat))),
    at(Gemini, post("models/{model}:streamGenerateContent", Means::Stream(Gemini, Operation::Chat))),
    at(Gemini, post("models/{model}:embedContent", Means::Call(Gemini, Operation::Embeddings))),
    at(Gemini, post("models/{model}:batchEmbedContents", Means::Call(Gemini, Operation::Embeddings))),
    // Vertex AI counts tokens under a model's name.
    at(Gemini, post("models/count-tokens:rawPredict", COUNTS)),
    at(Gemini, post("anthropic/models/{model}:rawPredict", Means::Call(Anthropic, Operation::Messages))),
    at(Gemini, post("anthropic/models/{model}:streamRawPredict", Means::Stream(Anthropic, Operation::Messages))),
    at(Bedrock, post("model/{model}/converse", Means::Call(Bedrock, Operation::Chat))),
    at(Bedrock, post("model/{model}/invoke", Means::Call(Bedrock, Operation::Chat))),
    at(Bedrock, post("model/{model}/converse-stream", Means::Stream(Bedrock, Operation::Chat))),
    at(Bedrock, post("model/{model}/invoke-with-response-stream", Means::Stream(Bedrock, Operation::Chat))),
    // Responses that may be made in the background.
    get("responses/{id}", Means::Polls),
    post("responses/{id}/cancel", Means::Polls),
    delete("responses/{id}", Means::Forgets),
    // Models.
    get("models", call(Operation::Models)),
    get("models/{model}", call(Operation::Models)),
    // Work that goes on elsewhere.
    post("messages/batches", Means::Batches(Anthropic)),
    post("messages/batches/{id}/cancel", Means::AsksBatch),
    get("messages/batches/{id}/results", Means::Results),
    post("batches", Means::Batches(Api::OpenAi)),
    post("batches/{id}/cancel", Means::AsksBatch),
    get("batches/{id}", Means::AsksBatch),
    get("batches", Means::ListsBatches),
    get("files/{id}/content", Means::Content),
    post("batchPredictionJobs", BATCH),
    at(Gemini, post("models/{model}:batchGenerateContent", BATCH)),
    at(Gemini, post("models/{model}:asyncBatchEmbedContent", BATCH)),
    at(Gemini, post("models/{model}:batchEmbedText", BATCH)),
    at(Bedrock, post("model-invocation-job", BATCH)),
    post("videos", VIDEO),
    post("videos/{operation}", VIDEO),
    post("videos/{id}/remix", VIDEO),
    post("video/generations", VIDEO),
    post("video/generations/jobs", VIDEO),
    at(Gemini, post("models/{model}:predictLongRunning", VIDEO)),
    at(Bedrock, post("async-invoke", VIDEO)),
    post("fine_tuning/jobs", TUNING),
    post("fine_tuning/jobs/{id}/resume", TUNING),
    post("fine-tunes", TUNING),
    post("tuningJobs", TUNING),
    post("tunedModels", TUNING),
    post("model-customization-jobs", TUNING),
    post("threads/runs", RUN),
    post("threads/{id}/runs", RUN),
    post("runs/{id}/submit_tool_outputs", RUN),
    post("evals/{id}/runs", RUN),
    post("graders/run", RUN),
    post("realtime/sessions", SESSION),
    post("realtime/client_secrets", SESSION),
    post("realtime/transcription_sessions", SESSION),
    post("realtime/calls", SESSION),
    post("realtime/calls/{id}/accept", SESSION),
    post("realtime/translations/client_secrets", SESSION),
    post("live/sessions", SESSION),
    post("live/sessions/{id}/accept", SESSION),
    post("live/sessions/{id}/fork", SESSION),
    post("chatkit/sessions", SESSION),
    post("agents/sessions", AGENT),
    post("sessions/{id}/events", AGENT),
    post("automations/{id}/invocations", AGENT),
    post("deployments/{id}/run", AGENT),
    at(Anthropic, post("sessions", AGENT)),
    at(Anthropic, post("dreams", AGENT)),
    post("containers", CONTAINER),
    at(Gemini, post("cachedContents", CACHED)),
    // Free.
    post("moderations", Means::Judges),
    post("responses/input_tokens", COUNTS),
    at(Gemini, post("models/{model}:countTokens", COUNTS)),
    at(Gemini, post("models/{model}:computeTokens", COUNTS)),
    at(Bedrock, post("model/{model}/count-tokens", COUNTS)),
    post("tokenize", COUNTS),
    post("detokenize", COUNTS),
    post("{id}/cancel", ENDS),
    post("fine_tuning/jobs/{id}/pause", ENDS),
    post("calls/{id}/hangup", ENDS),
    post("calls/{id}/reject", ENDS),
    post("live/sessions/{id}/hangup", ENDS),
    post("live/sessions/{id}/reject", ENDS),
    at(Gemini, post("batches/{id}:cancel", ENDS)),
    at(Gemini, post("operations/{id}:cancel", ENDS)),
    at(Gemini, post("batchPredictionJobs/{id}:cancel", ENDS)),
    at(Gemini, post("tuningJobs/{id}:cancel", ENDS)),
    at(Bedrock, post("model-invocation-job/{id}/stop", ENDS)),
    at(Bedrock, post("model-customization-jobs/{id}/stop", ENDS)),
    at(Gemini, post("operations/{id}:wait", WAITS)),
    at(Gemini, post("models/{model}:fetchPredictOperation", WAITS)),
    post("containers/{id}/files", STORES),
    post("vector_stores/{id}/files", STORES),
    post("files", Means::Uploads),
    post("uploads", STORES),
    post("uploads/{id}/parts", STORES),
    post("vector_stores", STORES),
    post("vector_stores/{id}", STORES),
    post("vector_stores/{id}/files/{id}", STORES),
    post("vector_stores/{id}/file_batches", STORES),
    post("chat/completions/{id}", RECORDS),
    post("conversations", RECORDS),
    post("conversations/{id}", RECORDS),
    post("conversations/{id}/items", RECORDS),
    post("assistants", RECORDS),
    post("assistants/{id}", RECORDS),
    post("threads", RECORDS),
    post("threads/{id}", RECORDS),
    post("threads/{id}/runs/{id}", RECORDS),
    post("evals", RECORDS),
    post("evals/{id}", RECORDS),
    post("graders/validate", RECORDS),
    at(Gemini, change("cachedContents/{id}", RECORDS)),
    at(Gemini, change("tunedModels/{id}", RECORDS)),
    at(Gemini, change("batches/{id}:updateGenerateContentBatch", RECORDS)),
    at(Gemini, change("batches/{id}:updateEmbedContentBatch", RECORDS)),
];

/// The WebSockets whose events state usage, by the last segment of the path. The cost of any other WebSocket is unknown.
pub static SESSIONS: &[(&str, Session)] = &[("realtime", Session::Realtime), ("responses", Session::Responses)];

/// The session that a GET may open.
pub(super) fn session(method: &Method, last: &[&str; 5]) -> Option<Session> {
    let known = SESSIONS.iter().find(|(name, _)| *name == last[0]);
    known.filter(|_| *method == Method::GET).map(|(_, session)| *session)
}

/// A row, prepared.
struct Fit {
    row: &'static Row,
    /// The path's segments, the last one first.
    segments: Box<[Segment]>,
}

enum Segment {
    Literal(&'static str),
    Any,
    /// Google's `{name}:verb` or `name:verb`; `None`: any name.
    Verb(Option<&'static str>, &'static str),
}

static FITS: LazyLock<Vec<Fit>> = LazyLock::new(|| {
    let segment = |text: &'static str| match text.split_once(':') {
        Some((name, verb)) => Segment::Verb((!name.starts_with('{')).then_some(name), verb),
        None if text.starts_with('{') => Segment::Any,
        None => Segment::Literal(text),
    };
    ROWS.iter().map(|row| Fit { row, segments: row.path.rsplit('/').map(segment).collect() }).collect()
});

/// Models' parents in Google's paths: a row that says `models/{model}:verb` means each.
pub(super) const PARENTS: [&str; 3] = ["models", "tunedModels", "endpoints"];

impl Fit {
    fn fits(&self, api: Api, verb: Verb, last: &[&str; 5]) -> bool {
        if self.row.verb != verb || self.row.at.is_some_and(|at| at != api) {
            return false;
        }
        let calls = matches!(self.segments[0], Segment::Verb(..));
        self.segments.iter().zip(last).all(|(wanted, &segment)| match *wanted {
            Segment::Literal("models") if calls => PARENTS.contains(&segment),
            Segment::Literal(text) => text == segment,
            Segment::Any => !segment.is_empty(),
            Segment::Verb(name, verb) => {
                let text = percent_decode_str(segment).decode_utf8_lossy();
                text.rsplit_once(':').is_some_and(|(its, does)| does == verb && name.is_none_or(|name| name == its))
            }
        })
    }
}

/// The row of a request; `None`: no row fits. `last`: the last segments of its path, the last one first.
pub(super) fn row(api: Api, method: &Method, last: &[&str; 5]) -> Option<&'static Row> {
    let verb = match *method {
        Method::POST => Verb::Post,
        Method::PUT | Method::PATCH => Verb::Change,
        Method::GET | Method::HEAD => Verb::Get,
        Method::DELETE => Verb::Delete,
        _ => return None,
    };
    FITS.iter().find(|fit| fit.fits(api, verb, last)).map(|fit| fit.row)
}

/// Whether a method alone tells that a request starts no work.
pub(super) fn only_reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE | Method::TRACE)
}

impl Row {
    /// The method, in words.
    pub fn method(&self) -> &'static str {
        match self.verb {
            Verb::Post => "POST",
            Verb::Change => "PATCH",
            Verb::Get => "GET",
            Verb::Delete => "DELETE",
        }
    }
}

impl Means {
    /// How the provider bills a row of this meaning, in words.
    pub fn words(self) -> String {
        match self {
            Self::Call(_, Operation::Models) => "free: reads".into(),
            Self::Call(api, operation) => format!("by its answer ({api}, {})", operation.as_str()),
            Self::Stream(api, operation) => format!("by its stream ({api}, {})", operation.as_str()),
            Self::Free(what) => format!("free: {what}"),
            Self::Counts(_) => "free: counts tokens".into(),
            Self::Judges => "free with OpenAI's models, else as a path without a row".into(),
            Self::Polls => "by the answer that says that the work has ended, once, to who began it".into(),
            Self::Forgets => "free; a response whose work goes on is charged as it was reserved, to who began it".into(),
            Self::Uploads => "free: stores a file, which may be the requests of a batch".into(),
            Self::Batches(_) => "reserved when it is created, by its requests; charged once, by its results, at the batch price".into(),
            Self::AsksBatch | Self::ListsBatches | Self::Results | Self::Content => {
                "free; the first answer that states what a batch has used charges it".into()
            }
            Self::Work(what) => format!("no answer says the cost of {what}: refused under an enforced limit, unless `unmetered: allow`"),
        }
    }
}

/// The table in Markdown, for the reference.
pub fn reference() -> String {
    let mut text = String::from(
        "## Paths of model APIs\n\nHow each path is billed. A base path may stand in front; providers may speak each other's APIs. GET, HEAD, \
         OPTIONS and DELETE start no work. Any other request without a row is refused under an enforced `usd` limit, unless \
         `unmetered: allow` or `unpriced: allow`.\n\n| request | at | billed |\n|---|---|---|\n",
    );
    for row in ROWS {
        let at = row.at.map_or_else(|| "any API".to_owned(), |api| api.to_string());
        let _ = writeln!(text, "| {} `.../{}` | {at} | {} |", row.method(), row.path, row.means.words());
    }
    for (name, _) in SESSIONS {
        let _ = writeln!(text, "| WebSocket `.../{name}` | any API | by its events, response by response |");
    }
    let _ = writeln!(text, "| any other WebSocket | any API | {} |", Means::Work("a WebSocket session").words());
    text
}
