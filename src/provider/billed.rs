//! How a provider bills the work that a request starts, as far as method and path tell. The table has the free paths, the paths
//! whose answer states the cost, and the paths whose cost no answer states.
//!
//! The list of free paths is closed. A path on no list may cost money: a dollar limit must not let it pass.

use http::Method;

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
    /// By usage that no answer over this connection states. The text names the work: a job that runs elsewhere, a session.
    Elsewhere(&'static str),
    /// The path is on no list.
    Unknown,
}

/// The bill of a request without an operation in [`recognise`](super::recognise). `last`: its path's last segments, the last one first.
pub(super) fn by_path(method: &Method, last: &[&str; 5]) -> Billed {
    let polled = |id: &str| Billed::AsPolled(id.into());
    if *method != Method::POST {
        return match last {
            [id, "responses", ..] if *method == Method::GET => polled(id),
            _ => Billed::Never,
        };
    }
    if let ["cancel", id, "responses", ..] = last {
        return polled(id);
    }
    // Google's custom verbs: `models/{model}:{verb}`, `batches/{id}:cancel`.
    let (name, verb) = last[0].rsplit_once(':').unwrap_or((last[0], ""));
    if is_free(verb, name, last) {
        return Billed::Never;
    }
    job(verb, name, last).map_or(Billed::Unknown, Billed::Elsewhere)
}

/// Whether a POST costs nothing.
fn is_free(verb: &str, name: &str, last: &[&str; 5]) -> bool {
    match (verb, name) {
        ("countTokens" | "computeTokens" | "cancel" | "fetchPredictOperation" | "wait", _) | ("rawPredict", "count-tokens") => true,
        ("", "count_tokens" | "count-tokens" | "input_tokens" | "moderations" | "cancel" | "complete" | "tokenize" | "detokenize") => true,
        // Files: storage is free or priced by the day, not by the request.
        ("", "files" | "uploads" | "parts") => true,
        // Records of conversations, without a run.
        ("", "conversations" | "items" | "threads" | "assistants") => true,
        ("", "messages") => last[2] == "threads",
        // Ends a job.
        ("", "stop") => matches!(last[2], "model-invocation-job" | "model-customization-jobs"),
        // Changes the metadata of a record.
        ("", _) => matches!(last[1..], ["completions", "chat", ..] | ["threads" | "assistants" | "conversations", ..]),
        _ => false,
    }
}

/// The work of a POST whose cost no answer over this connection states; `None`: no such work is known.
fn job(verb: &str, name: &str, last: &[&str; 5]) -> Option<&'static str> {
    const VIDEO: &str = "a video";
    const BATCH: &str = "a batch";
    const TUNING: &str = "a tuning job";
    const SESSION: &str = "a Realtime session";
    Some(match (verb, name, last[1]) {
        ("batchGenerateContent" | "asyncBatchEmbedContent" | "batchEmbedText", ..) | ("", "batches" | "batchPredictionJobs", _) => BATCH,
        ("", "model-invocation-job", _) => BATCH,
        ("predictLongRunning", ..) | ("", "videos" | "remix" | "extensions" | "async-invoke", _) | ("", _, "videos") => VIDEO,
        ("", "jobs" | "generations", _) if last.contains(&"video") => VIDEO,
        ("", "jobs", "fine_tuning") | ("", "fine-tunes" | "tuningJobs" | "tunedModels" | "model-customization-jobs", _) => TUNING,
        ("", "compact", "responses") => "a compaction",
        ("", "runs" | "submit_tool_outputs", _) => "a run of an assistant or an evaluation",
        ("", "sessions" | "client_secrets" | "calls" | "transcription_sessions", "realtime") => SESSION,
        _ => return None,
    })
}

/// The bill of a WebSocket to a model: its frames are not read.
pub const WEBSOCKET: Billed = Billed::Elsewhere("a WebSocket session");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Api, provider::recognise};

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
            (OpenAi, delete, "/v1/responses/resp_1", Billed::Never),
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
            (OpenAi, post, "/v1/batches", elsewhere("a batch")),
            (Anthropic, post, "/v1/messages/batches", elsewhere("a batch")),
            (Gemini, post, "/v1beta/models/g:batchGenerateContent", elsewhere("a batch")),
            (Bedrock, post, "/model-invocation-job", elsewhere("a batch")),
            (OpenAi, post, "/v1/videos", elsewhere("a video")),
            (OpenAi, post, "/v1/videos/v_1/remix", elsewhere("a video")),
            (OpenAi, post, "/openai/v1/video/generations/jobs", elsewhere("a video")),
            (Gemini, post, "/v1beta/models/veo-3:predictLongRunning", elsewhere("a video")),
            (Bedrock, post, "/async-invoke", elsewhere("a video")),
            (OpenAi, post, "/v1/fine_tuning/jobs", elsewhere("a tuning job")),
            (OpenAi, post, "/v1/responses/compact", elsewhere("a compaction")),
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
}
