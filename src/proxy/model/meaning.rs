//! Whether a path means one call: a provider must not read another call than the one that was understood.

use http::Method;

use crate::{
    config::Api,
    provider::{self, Billed, Shape},
    reject::Reject,
    route,
};

/// Refuses a path that a provider may read as another call than `shape`: that call would be limited and metered wrongly.
///
/// # Errors
/// A dot segment in any spelling; a path that becomes a call, or another call, when it is normalised or decoded again.
pub fn means_one_thing(api: Api, shape: &Shape, method: &Method, path: &str) -> Result<(), Reject> {
    if api == Api::Plain {
        return Ok(());
    }
    if route::has_dot_segments(path) {
        let text = "the path has a dot segment in some spelling: it leads out of the base path or means another call when it is normalised";
        return Err(Reject::BadRequest(text.into()));
    }
    let another = |reading: &String| {
        let read = provider::recognise(api, method, reading);
        matches!(read.billed, Billed::ByAnswer | Billed::AsBatch | Billed::Elsewhere(_)) && read != *shape
    };
    if route::careless_readings(path).iter().any(another) {
        return Err(Reject::BadRequest("the path means another call when it is normalised or decoded once more".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_with_an_escaped_slash_means_one_call() {
        let arn = "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Feu.anthropic.claude";
        for verb in ["converse", "invoke-with-response-stream", "count-tokens"] {
            let path = format!("{arn}/{verb}");
            let shape = provider::recognise(Api::Bedrock, &Method::POST, &path);
            assert!(means_one_thing(Api::Bedrock, &shape, &Method::POST, &path).is_ok(), "{verb}");
            assert!(means_one_thing(Api::Bedrock, &shape, &Method::POST, &format!("{path}/.")).is_err(), "{verb}");
        }
    }

    #[test]
    fn a_path_that_some_provider_reads_as_another_call_is_refused() {
        let means = |api, path: &str| means_one_thing(api, &provider::recognise(api, &Method::POST, path), &Method::POST, path).is_ok();
        for path in [
            "/v1/threads/t_1%2Fruns",
            "/v1/threads/t_1%252Fruns",
            "/v1/threads/t_1%25252fruns",
            "/v1/threads/t_1%255Cruns",
            "/v1/threads/t_1%c0%afruns",
            "/v1/chat%2Fcompletions",
            "/v1/chat%252Fcompletions",
            "/v1/chat/completions;v=1",
            "/v1/chat/completions%253b",
            "/v1/something%252Fbatches",
            "/v1/files%2500/v1/responses%253B",
            "/openai/deployments/cheap%252Fchat/completions",
            "/openai/deployments/my%2520gpt/embeddings",
        ] {
            assert!(!means(Api::OpenAi, path), "{path}");
        }
        for path in [
            "/v1/chat/completions",
            "//v1//chat/completions/",
            "/v1/threads/t%251",
            "/v1/files/100%2525",
            "/openai/deployments/my%20gpt/chat/completions",
        ] {
            assert!(means(Api::OpenAi, path), "{path}");
        }
        for (path, one) in [
            ("/v1beta/models/gemini-x%3AgenerateContent", true),
            ("/v1/models/org%2Fmodel-1.5:generateContent", true),
            ("/v1beta/models/gemini-x:countTokens%252F..", false),
            ("/v1beta/models/gemini-x:countTokens%3Bx:generateContent", true),
        ] {
            assert_eq!(means(Api::Gemini, path), one, "{path}");
        }
    }
}
