//! How a provider bills the work that a request starts, as far as method and path tell ([`paths`](super::paths) has the table).

use super::call::Shape;
use crate::config::Api;

/// How a provider bills the work that a request starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Billed {
    /// By the usage that its own answer states.
    ByAnswer,
    /// Not at all: the request reads, counts, changes or ends something.
    Never,
    /// The request polls a response with this id, which may be made in the background. The answer that says that the work has ended
    /// states its usage; every later answer states it again.
    AsPolled(Box<str>),
    /// Not at all. The request deletes the response with this id: no answer states the usage of its work any more.
    AsForgotten(Box<str>),
    /// The request creates a batch. Its results, or its state, tell what it has used.
    AsBatch,
    /// By usage that no answer over this connection states. The text names the work: a job that runs elsewhere, a session.
    Elsewhere(&'static str),
    /// The path is on no list.
    Unknown,
}

/// How the provider bills a request of this shape, in words. `opens`: the request opens a WebSocket.
pub fn words(shape: &Shape, opens: bool) -> String {
    match if opens { &WEBSOCKET } else { &shape.billed } {
        _ if opens && shape.session.is_some() => "by the usage that its events state, response by response".into(),
        Billed::ByAnswer => match shape.silent {
            Some(silent) => format!("no answer says the cost of {}; {}", silent.work, silent.remedy),
            None => "by the usage that its answer states".into(),
        },
        Billed::Never if shape.api == Api::Plain => "not as a model call: the provider has no model API".into(),
        Billed::Never | Billed::AsForgotten(_) => "free: it starts no work".into(),
        Billed::AsPolled(_) => "once, to who began the work, by the answer that says that the work has ended".into(),
        Billed::AsBatch => "reserved by its requests, charged once by its results, at the batch price".into(),
        Billed::Elsewhere(what) => format!("no answer says the cost of {what}"),
        Billed::Unknown => "unknown: the path has no row in the table of `outrigger reference`".into(),
    }
}

/// The bill of a WebSocket to a model whose events are not known.
pub const WEBSOCKET: Billed = Billed::Elsewhere("a WebSocket session");

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{super::paths, *};
    use crate::provider::{Facts, recognise};

    fn billed(api: Api, method: &Method, path: &str) -> Billed {
        recognise(api, method, path).billed
    }

    #[test]
    fn what_is_answered_what_is_free_and_what_is_billed_elsewhere() {
        use Api::{Anthropic, Bedrock, Gemini, OpenAi, Plain};
        let elsewhere = |what: &'static str| Billed::Elsewhere(what);
        let (get, post, delete) = (&Method::GET, &Method::POST, &Method::DELETE);
        for (api, method, path, expected) in [
            (OpenAi, post, "/v1/chat/completions", Billed::ByAnswer),
            (OpenAi, post, "/v1/responses", Billed::ByAnswer),
            (OpenAi, post, "/v1/embeddings", Billed::ByAnswer),
            (OpenAi, post, "/v1/images/edits", Billed::ByAnswer),
            (OpenAi, post, "/v1/audio/speech", Billed::ByAnswer),
            (Anthropic, post, "/v1/messages", Billed::ByAnswer),
            (Gemini, post, "/v1beta/models/g:generateContent", Billed::ByAnswer),
            (Gemini, post, "/v1beta/models/g:streamGenerateContent", Billed::ByAnswer),
            (Gemini, post, "/v1beta/openai/chat/completions", Billed::ByAnswer),
            (Bedrock, post, "/model/m/converse", Billed::ByAnswer),
            (OpenAi, get, "/v1/models", Billed::Never),
            (OpenAi, get, "/v1/batches/b_1", Billed::Never),
            (OpenAi, get, "/v1/chat/completions", Billed::Never),
            (OpenAi, delete, "/v1/responses/resp_1", Billed::AsForgotten("resp_1".into())),
            (OpenAi, get, "/v1/responses/resp_1/input_items", Billed::Never),
            (OpenAi, post, "/v1/files", Billed::Never),
            (OpenAi, post, "/v1/uploads/u_1/parts", Billed::Never),
            (OpenAi, post, "/v1/moderations", Billed::Never),
            (OpenAi, post, "/v1/responses/input_tokens", Billed::Never),
            (OpenAi, post, "/v1/threads/t_1/messages", Billed::Never),
            (OpenAi, post, "/v1/chat/completions/c_1", Billed::Never),
            (OpenAi, post, "/v1/batches/b_1/cancel", Billed::Never),
            (Anthropic, post, "/v1/messages/count_tokens", Billed::Never),
            (Anthropic, post, "/v1/messages/batches/b_1/cancel", Billed::Never),
            (Gemini, post, "/v1beta/models/g:countTokens", Billed::Never),
            (Gemini, post, "/v1beta/batches/b_1:cancel", Billed::Never),
            (Gemini, post, "/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict", Billed::Never),
            (Gemini, post, "/v1/projects/p/locations/l/publishers/google/models/veo-3:fetchPredictOperation", Billed::Never),
            (Gemini, post, "/v1/projects/p/locations/l/operations/o_1:wait", Billed::Never),
            (Bedrock, post, "/model/m/count-tokens", Billed::Never),
            (Bedrock, post, "/model-invocation-job/j_1/stop", Billed::Never),
            (OpenAi, get, "/v1/responses/resp_1", Billed::AsPolled("resp_1".into())),
            (Anthropic, get, "/gateway/v1/responses/resp_1/", Billed::AsPolled("resp_1".into())),
            (OpenAi, post, "/v1/responses/resp_1/cancel", Billed::AsPolled("resp_1".into())),
            (OpenAi, post, "/v1/batches", Billed::AsBatch),
            (Anthropic, post, "/v1/messages/batches", Billed::AsBatch),
            (Gemini, post, "/v1beta/models/g:batchGenerateContent", elsewhere("a batch")),
            (Gemini, post, "/v1beta/models/g:asyncBatchEmbedContent", elsewhere("a batch")),
            (Gemini, &Method::PATCH, "/v1beta/batches/b_1:updateGenerateContentBatch", Billed::Never),
            (Gemini, get, "/v1beta/batches/b_1", Billed::Never),
            (Gemini, delete, "/v1beta/batches/b_1", Billed::Never),
            (Bedrock, get, "/model-invocation-jobs", Billed::Never),
            (Bedrock, post, "/model-invocation-job", elsewhere("a batch")),
            (OpenAi, post, "/v1/videos", elsewhere("a video")),
            (OpenAi, post, "/v1/videos/v_1/remix", elsewhere("a video")),
            (OpenAi, post, "/v1/videos/extensions", elsewhere("a video")),
            (OpenAi, get, "/v1/videos/v_1/content", Billed::Never),
            (OpenAi, post, "/openai/v1/video/generations/jobs", elsewhere("a video")),
            (Gemini, post, "/v1beta/models/veo-3:predictLongRunning", elsewhere("a video")),
            (Bedrock, post, "/async-invoke", elsewhere("a video")),
            (OpenAi, post, "/v1/fine_tuning/jobs", elsewhere("a tuning job")),
            (OpenAi, post, "/v1/responses/compact", Billed::ByAnswer),
            (OpenAi, post, "/v1/live/sessions", elsewhere("a Realtime session")),
            (OpenAi, post, "/v1/containers", elsewhere("a container")),
            (Anthropic, post, "/v1/deployments/d_1/run", elsewhere("a managed agent")),
            (OpenAi, &Method::PUT, "/v1/whatever", Billed::Unknown),
            (Gemini, &Method::PATCH, "/v1beta/cachedContents/c_1", Billed::Never),
            (OpenAi, post, "/v1/threads/t_1/runs", elsewhere("a run of an assistant or an evaluation")),
            (OpenAi, post, "/v1/realtime/client_secrets", elsewhere("a Realtime session")),
            (OpenAi, post, "/v1/rerank", Billed::Unknown),
            (OpenAi, post, "/", Billed::Unknown),
            (Gemini, post, "/v1beta/models/imagen:predict", Billed::Unknown),
            (Bedrock, post, "/guardrail/g/version/1/apply", Billed::Unknown),
            (Plain, post, "/v1/batches", Billed::Never),
        ] {
            assert_eq!(billed(api, method, path), expected, "{api} {method} {path}");
        }
    }

    #[test]
    fn every_row_of_the_table_is_found_and_means_what_it_says() {
        for row in paths::ROWS {
            let path = format!("/base/{}", row.path.replace("{model}", "m-1").replace("{id}", "i_1").replace("{operation}", "edits"));
            let method = row.method().parse().expect("a method");
            let apis = row.at.map_or(vec![Api::OpenAi, Api::Anthropic, Api::Gemini, Api::Bedrock], |api| vec![api]);
            for api in apis {
                let shape = recognise(api, &method, &path);
                let expected = match row.means {
                    paths::Means::Call(wire, operation) | paths::Means::Stream(wire, operation) => {
                        assert_eq!((shape.api, shape.operation), (if shape.reads_body { wire } else { api }, operation), "{path}");
                        if shape.reads_body { Billed::ByAnswer } else { Billed::Never }
                    }
                    paths::Means::Batches(_) => Billed::AsBatch,
                    paths::Means::Uploads
                    | paths::Means::AsksBatch
                    | paths::Means::ListsBatches
                    | paths::Means::Results
                    | paths::Means::Content => Billed::Never,
                    paths::Means::Free(_) | paths::Means::Counts(_) | paths::Means::Judges => Billed::Never,
                    paths::Means::Forgets => Billed::AsForgotten("i_1".into()),
                    paths::Means::Polls => Billed::AsPolled("i_1".into()),
                    paths::Means::Work(what) => Billed::Elsewhere(what),
                };
                assert_eq!(shape.billed, expected, "{api} {method} {path}");
                assert!(!words(&shape, false).is_empty() && paths::reference().contains(row.path), "{path}");
            }
        }
    }

    #[test]
    fn the_table_is_closed_and_reading_is_free() {
        for api in [Api::OpenAi, Api::Anthropic, Api::Gemini, Api::Bedrock] {
            for (method, expected) in [
                (Method::POST, Billed::Unknown),
                (Method::PUT, Billed::Unknown),
                (Method::PATCH, Billed::Unknown),
                (Method::from_bytes(b"QUERY").expect("a method"), Billed::Unknown),
                (Method::GET, Billed::Never),
                (Method::DELETE, Billed::Never),
            ] {
                for path in ["/", "/v1/nobody/knows", "/v1/chat/completions/x/y", "/v1beta/models/g:dance"] {
                    assert_eq!(billed(api, &method, path), expected, "{api} {method} {path}");
                }
            }
        }
    }

    #[test]
    fn whether_a_judgement_is_free_depends_on_its_model() {
        for (model, expected) in [
            (None, Billed::Never),
            (Some("omni-moderation-latest"), Billed::Never),
            (Some("text-moderation-007"), Billed::Never),
            (Some("mistral-moderation-latest"), Billed::Unknown),
        ] {
            let mut shape = recognise(Api::OpenAi, &Method::POST, "/v1/moderations");
            shape.asks_for(&Facts { model: model.map(str::to_owned), ..Facts::default() }, |_| false);
            assert_eq!(shape.billed, expected, "{model:?}");
        }
    }
}
