//! The shape of a request to a provider, as far as its method and path tell.
//!
//! Paths are matched by their last segments, so a base path in front of them does not matter. A provider may speak more
//! than one wire format (Gemini and Anthropic offer OpenAI's, gateways offer Anthropic's). The path decides; the later steps
//! go by [`Shape::api`].

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

use super::{
    Facts,
    batch::Step,
    billed::Billed,
    paths::{self, Means},
    session::Session,
    sound::{Silent, Sound},
};
use crate::config::{Api, Operation};

/// The facts that method and path tell about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The wire format of the path; not always the provider's own.
    pub api: Api,
    /// The operation.
    pub operation: Operation,
    /// The model, if it stands in the path (Gemini, Vertex, Azure deployments, Bedrock), percent-decoded.
    pub model_in_path: Option<String>,
    /// Whether the answer streams, if the path says so (Gemini, Bedrock, Vertex).
    pub stream_in_path: Option<bool>,
    /// Whether the body has further facts, and is worth reading before routing.
    pub reads_body: bool,
    /// What the call does with sound.
    pub sound: Option<Sound>,
    /// The answer that the body asks for does not say what it has cost.
    pub silent: Option<Silent>,
    /// Whether the request has text judged: the body's model decides whether the judgement is free.
    pub judges: bool,
    /// The session whose events are known, if the request opens a WebSocket.
    pub session: Option<Session>,
    /// The request's place in the life of a batch.
    pub batch: Option<Step>,
    /// How the provider bills the request, unless it opens a WebSocket.
    pub billed: Billed,
}

impl Shape {
    /// The operation by which an answer is metered, if the answer may state usage.
    pub fn metered_as(&self) -> Option<Operation> {
        match self.billed {
            Billed::ByAnswer => Some(self.operation),
            Billed::AsPolled(_) => Some(Operation::Responses),
            Billed::Never | Billed::AsForgotten(_) | Billed::AsBatch | Billed::Elsewhere(_) | Billed::Unknown => None,
        }
    }
}

impl Shape {
    /// Takes the facts of the body. A judgement of text by OpenAI's models is free: other vendors bill theirs. `is_free`: whether a model's
    /// price is 0: an answer of such a model has nothing to say of its cost.
    pub fn asks_for(&mut self, facts: &Facts, is_free: impl FnOnce(&str) -> bool) {
        let model = facts.model.as_deref();
        let asked = self.model_in_path.as_deref().or(model);
        self.silent = self.sound.and_then(|sound| sound.silent(facts)).filter(|_| !asked.is_some_and(is_free));
        let openai = |model: &str| ["omni-moderation", "text-moderation"].iter().any(|family| model.starts_with(family));
        if self.judges && !model.is_none_or(openai) {
            self.billed = Billed::Unknown;
        }
    }

    /// Whether a request of this shape costs nothing, unless it opens a WebSocket. `false` for a provider without a model API: its
    /// costs are unknown.
    pub fn is_free(&self) -> bool {
        self.api != Api::Plain && matches!(self.billed, Billed::Never | Billed::AsForgotten(_))
    }

    /// Whether a request of this shape orders no work: no limit on tokens or dollars refuses it. A poll orders no work. Its answer may
    /// be the first to state the work's usage, which is charged then.
    pub fn orders_nothing(&self) -> bool {
        self.api != Api::Plain && matches!(self.billed, Billed::Never | Billed::AsPolled(_) | Billed::AsForgotten(_))
    }
}

/// The shape of a request with `method` and `path` to a provider that speaks `api`. `path` has no query; it may begin with a base path.
pub fn recognise(api: Api, method: &Method, path: &str) -> Shape {
    let none = |billed| Shape {
        api,
        operation: Operation::Other,
        model_in_path: None,
        stream_in_path: None,
        reads_body: false,
        sound: None,
        silent: None,
        judges: false,
        session: None,
        batch: None,
        billed,
    };
    let step = |step| Shape { batch: Some(step), ..none(Billed::Never) };
    if api == Api::Plain {
        return none(Billed::Never);
    }
    let tail = Tail::of(path);
    let Some(row) = paths::row(api, method, &tail.last) else {
        let (model_in_path, session) = (tail.google_model(api, method), paths::session(method, &tail.last));
        // A route that matches `responses` means them over a WebSocket, too.
        let operation = if session == Some(Session::Responses) { Operation::Responses } else { Operation::Other };
        return Shape {
            operation,
            model_in_path,
            session,
            ..none(if paths::only_reads(method) { Billed::Never } else { Billed::Unknown })
        };
    };
    match row.means {
        Means::Call(_, Operation::Models) => Shape { operation: Operation::Models, ..none(Billed::Never) },
        Means::Call(wire, operation) | Means::Stream(wire, operation) => {
            let mut shape = Shape { api: wire, operation, reads_body: true, ..none(Billed::ByAnswer) };
            place_model(&mut shape, row.path, matches!(row.means, Means::Stream(..)), &tail);
            shape.sound = match row.path {
                "audio/speech" => Some(Sound::Speaks),
                "audio/transcriptions" => Some(Sound::Transcribes),
                "audio/translations" => Some(Sound::Translates),
                _ => None,
            };
            shape
        }
        Means::Counts(wire) => Shape { api: wire, reads_body: true, ..none(Billed::Never) },
        Means::Judges => Shape { api: Api::OpenAi, reads_body: true, judges: true, ..none(Billed::Never) },
        Means::Free(_) => Shape { model_in_path: tail.google_model(api, method), ..none(Billed::Never) },
        Means::Polls => Shape { api: Api::OpenAi, ..none(Billed::AsPolled(tail.id().into())) },
        Means::Uploads => step(Step::Upload),
        Means::Batches(wire) => Shape { api: wire, reads_body: true, batch: Some(Step::Create), ..none(Billed::AsBatch) },
        Means::AsksBatch => step(Step::Ask(tail.id().into())),
        Means::ListsBatches => step(Step::List),
        Means::Results => step(Step::Results(tail.id().into())),
        Means::Content => step(Step::Content(tail.id().into())),
        Means::Forgets => Shape { api: Api::OpenAi, ..none(Billed::AsForgotten(tail.last[0].into())) },
        Means::Work(what) => Shape { model_in_path: tail.google_model(api, method), ..none(Billed::Elsewhere(what)) },
    }
}

/// The model and the stream, as far as the path of a call names them.
fn place_model(shape: &mut Shape, row: &str, streams: bool, tail: &Tail<'_>) {
    if row.contains(':') {
        shape.model_in_path = tail.verb().map(|(model, _)| model);
        shape.stream_in_path = Some(streams);
    } else if row.starts_with("model/{model}") {
        let model = decoded(tail.last[1]);
        if model.contains("embed") {
            shape.operation = Operation::Embeddings;
        }
        shape.model_in_path = Some(model);
        shape.stream_in_path = Some(streams);
    } else {
        // Azure: `/openai/deployments/{deployment}/chat/completions`.
        let deployment = tail.last.iter().position(|segment| *segment == "deployments").filter(|at| *at > 0).map(|at| tail.last[at - 1]);
        shape.model_in_path = deployment.map(decoded);
    }
}

pub(super) fn decoded(segment: &str) -> String {
    match percent_decode_str(segment).decode_utf8_lossy() {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

/// The last segments of a path, the very last first; empty ones are left out.
struct Tail<'a> {
    last: [&'a str; 5],
}

impl<'a> Tail<'a> {
    /// The id in front of a verb, or at the end.
    fn id(&self) -> &'a str {
        if matches!(self.last[0], "cancel" | "results" | "content") { self.last[1] } else { self.last[0] }
    }

    /// The name and the verb of Google's `models/{name}:{verb}`, decoded.
    fn verb(&self) -> Option<(String, String)> {
        let last = percent_decode_str(self.last[0]).decode_utf8_lossy();
        last.rsplit_once(':').map(|(name, verb)| (name.to_owned(), verb.to_owned()))
    }

    /// The model of a request in Google's form that is no model call.
    fn google_model(&self, api: Api, method: &Method) -> Option<String> {
        let calls = api == Api::Gemini && *method == Method::POST && paths::PARENTS.contains(&self.last[1]);
        self.verb().filter(|_| calls).map(|(model, _)| model)
    }

    fn of(path: &'a str) -> Self {
        let mut last = [""; 5];
        for (slot, segment) in last.iter_mut().zip(path.rsplit('/').filter(|segment| !segment.is_empty())) {
            *slot = segment;
        }
        Self { last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(api: Api, path: &str) -> Shape {
        recognise(api, &Method::POST, path)
    }

    #[test]
    fn openai_paths_with_and_without_a_base() {
        for (path, operation) in [
            ("/v1/chat/completions", Operation::Chat),
            ("/chat/completions", Operation::Chat),
            ("/openai/v1/chat/completions/", Operation::Chat),
            ("/v1/completions", Operation::Completions),
            ("/v1/responses", Operation::Responses),
            ("/v1/responses/resp_1/cancel", Operation::Other),
            ("/v1/embeddings", Operation::Embeddings),
            ("/v1/images/generations", Operation::Images),
            ("/v1/audio/transcriptions", Operation::Audio),
            ("/v1/files", Operation::Other),
            ("/v1/threads/t_1/messages", Operation::Other),
            ("/", Operation::Other),
            ("", Operation::Other),
        ] {
            let shape = post(Api::OpenAi, path);
            assert_eq!((shape.api, shape.operation, shape.reads_body), (Api::OpenAi, operation, operation != Operation::Other), "{path}");
            assert_eq!((shape.model_in_path, shape.stream_in_path), (None, None));
        }
    }

    #[test]
    fn reading_is_never_a_call() {
        for (path, operation) in [
            ("/v1/models", Operation::Models),
            ("/v1/models/gpt-4o", Operation::Models),
            ("/v1/chat/completions", Operation::Other),
            ("/v1/responses/resp_1", Operation::Other),
        ] {
            let shape = recognise(Api::OpenAi, &Method::GET, path);
            assert_eq!((shape.operation, shape.reads_body), (operation, false), "{path}");
        }
        assert_eq!(recognise(Api::OpenAi, &Method::DELETE, "/v1/responses").operation, Operation::Other);
        // Each response of the WebSocket that this opens is one.
        let opens = recognise(Api::OpenAi, &Method::GET, "/v1/responses");
        assert_eq!((opens.operation, opens.session, opens.is_free()), (Operation::Responses, Some(Session::Responses), true));
        assert_eq!(recognise(Api::OpenAi, &Method::GET, "/v1/realtime").operation, Operation::Other);
    }

    #[test]
    fn anthropic_paths() {
        assert_eq!(post(Api::Anthropic, "/v1/messages").operation, Operation::Messages);
        let count = post(Api::Anthropic, "/v1/messages/count_tokens");
        assert_eq!((count.operation, count.reads_body), (Operation::Other, true));
        assert_eq!(post(Api::Anthropic, "/v1/messages/batches").operation, Operation::Other);
    }

    #[test]
    fn the_path_decides_the_wire_format() {
        assert_eq!(post(Api::Anthropic, "/v1/chat/completions").api, Api::OpenAi);
        assert_eq!(post(Api::Gemini, "/v1beta/openai/chat/completions").api, Api::OpenAi);
        assert_eq!(post(Api::OpenAi, "/api/v1/messages").api, Api::Anthropic);
        assert_eq!(post(Api::Plain, "/v1/chat/completions").operation, Operation::Other);
    }

    #[test]
    fn models_in_the_path() {
        for (api, path, operation, model, stream) in [
            (Api::Gemini, "/v1beta/models/gemini-x:streamGenerateContent", Operation::Chat, "gemini-x", Some(true)),
            (Api::Gemini, "/v1/models/gemini-x%3AgenerateContent", Operation::Chat, "gemini-x", Some(false)),
            (Api::Gemini, "/v1/projects/p/locations/l/publishers/google/models/g:generateContent", Operation::Chat, "g", Some(false)),
            (Api::Gemini, "/v1/models/text-embedding:embedContent", Operation::Embeddings, "text-embedding", Some(false)),
            (Api::Gemini, "/v1/models/g:countTokens", Operation::Other, "g", None),
            (Api::OpenAi, "/openai/deployments/my%20gpt/chat/completions", Operation::Chat, "my gpt", None),
            (Api::OpenAi, "/openai/deployments/e/embeddings", Operation::Embeddings, "e", None),
            (Api::Bedrock, "/model/anthropic.claude-v1%3A0/converse-stream", Operation::Chat, "anthropic.claude-v1:0", Some(true)),
            (
                Api::Bedrock,
                "/model/amazon.titan-embed-text-v2%3A0/invoke",
                Operation::Embeddings,
                "amazon.titan-embed-text-v2:0",
                Some(false),
            ),
        ] {
            let shape = post(api, path);
            assert_eq!((shape.operation, shape.model_in_path.as_deref(), shape.stream_in_path), (operation, Some(model), stream), "{path}");
        }
        let vertex = post(Api::Gemini, "/v1/projects/p/locations/l/publishers/anthropic/models/claude:streamRawPredict");
        assert_eq!((vertex.api, vertex.operation, vertex.stream_in_path), (Api::Anthropic, Operation::Messages, Some(true)));
    }
}
