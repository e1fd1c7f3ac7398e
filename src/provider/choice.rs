//! Where a call goes whose path names no provider: to the provider that its model's name leads to.
//!
//! In this order: an alias of `models`; `provider/model`; the most specific pattern of `models`; the default provider. The API of the path
//! decides which places count: a call is never translated.

use std::{fmt::Write, sync::Arc};

use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::call::recognise;
use crate::config::{Api, ModelAim, ModelRule, Outbound, names_version};

/// The field by which a request says that it speaks Anthropic's API.
pub const ANTHROPIC: &str = "anthropic-version";

/// The provider of a call, and what follows where it fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Index into the providers.
    pub provider: usize,
    /// The model to ask for, if it is another than the app's word.
    pub model: Option<Arc<str>>,
    /// The places that come after it, in order; each asks for its model, or for the app's own word.
    pub rest: Vec<ModelAim>,
    /// Why it is that provider, in words.
    pub because: String,
}

/// The API of a path that begins with a version. `anthropic`: the request says which version of Anthropic's API it speaks.
pub fn api_of(method: &Method, path: &str, anthropic: bool) -> Api {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let (version, first) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    let own = match () {
        () if anthropic || first == "messages" => Api::Anthropic,
        () if version.contains("beta") || version.contains("alpha") => Api::Gemini,
        () => Api::OpenAi,
    };
    recognise(own, method, path).api
}

/// What a request for models asks for: `Some(None)` all of them, `Some(Some(name))` one. `None`: it asks for something else.
pub fn listing(method: &Method, path: &str) -> Option<Option<String>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let (_, rest) = path.strip_prefix('/')?.split_once('/')?;
    match rest.strip_prefix("models")? {
        "" | "/" => Some(None),
        one => Some(Some(percent_decode_str(one.strip_prefix('/')?).decode_utf8().ok()?.into_owned())),
    }
}

/// The path of a call at a provider whose own path is `base`: the version stands in one of them.
pub fn below<'a>(base: &str, path: &'a str) -> &'a str {
    if !base.split('/').any(names_version) {
        return path;
    }
    let inner = path.strip_prefix('/').unwrap_or(path);
    inner.find('/').map_or("", |end| &inner[end..])
}

/// Chooses for a call of `api` that asks for the model `asked`; `None`: it names none.
///
/// # Errors
/// Nothing takes the call, in words: no such model with the nearest names, another API with the path that is right, or no default provider.
pub fn choose(outbound: &Outbound, api: Api, asked: Option<&str>) -> Result<Choice, String> {
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
        return by_default(outbound, api, None).ok_or_else(|| {
            format!(
                "the request names neither a provider nor a model, and no provider is the default for {api} calls: write \
                 `default_provider`, or begin the path with the provider's name, as in /{}/...",
                outbound.providers.iter().find(|provider| provider.api == api).map_or("openai", |provider| &provider.name)
            )
        });
    };
    let rules = &outbound.models.rules;
    if let Some(alias) = rules.iter().find(|rule| rule.name.is_literal() && rule.name.as_str() == asked) {
        return by_rule(outbound, api, asked, alias);
    }
    if let Some((name, model)) = asked.split_once('/')
        && let Some(at) = outbound.providers.iter().position(|provider| &*provider.name == name)
        && !model.is_empty()
    {
        let because = format!("`{name}` is a provider");
        return match outbound.providers[at].api == api {
            true => Ok(Choice { provider: at, model: Some(model.into()), rest: Vec::new(), because }),
            false => Err(other_api(outbound, api, asked, &[at])),
        };
    }
    if let Some(pattern) = rules.iter().find(|rule| !rule.name.is_literal() && rule.name.matches(asked)) {
        return by_rule(outbound, api, asked, pattern);
    }
    by_default(outbound, api, Some(asked)).ok_or_else(|| unknown(outbound, api, asked))
}

fn by_rule(outbound: &Outbound, api: Api, asked: &str, rule: &ModelRule) -> Result<Choice, String> {
    let mut aims = rule.aims.iter().filter(|aim| outbound.providers[aim.provider].api == api).cloned();
    let Some(first) = aims.next() else {
        let places: Vec<usize> = rule.aims.iter().map(|aim| aim.provider).collect();
        return Err(other_api(outbound, api, asked, &places));
    };
    Ok(Choice {
        provider: first.provider,
        model: first.model.filter(|model| **model != *asked),
        rest: aims.collect(),
        because: format!("`{}` of outbound.models", rule.name.as_str()),
    })
}

fn by_default(outbound: &Outbound, api: Api, asked: Option<&str>) -> Option<Choice> {
    let provider = outbound.models.default_of(&outbound.providers, api)?;
    let because = match asked {
        Some(_) => format!("no name is for this model, and it takes the other {api} calls"),
        None => format!("the request names no model, and it takes the other {api} calls"),
    };
    Some(Choice { provider, model: None, rest: Vec::new(), because })
}

/// The refusal of a model whose places speak other APIs than the path.
fn other_api(outbound: &Outbound, api: Api, asked: &str, places: &[usize]) -> String {
    let mut text = format!("`{asked}` is not to be had at this path, which speaks {api}: a call is not translated");
    let mut told: Vec<Api> = Vec::new();
    for provider in places.iter().map(|at| &outbound.providers[*at]) {
        if !told.contains(&provider.api) {
            told.push(provider.api);
            let _ = write!(text, "; `{}` speaks {}: ask {}", provider.name, provider.api, path_of(provider.api, &provider.name));
        }
    }
    text
}

/// The path under which a model of this API is asked for.
fn path_of(api: Api, provider: &str) -> String {
    match api {
        Api::OpenAi => "POST /v1/chat/completions (OPENAI_BASE_URL ends in /v1)".into(),
        Api::Anthropic => "POST /v1/messages (ANTHROPIC_BASE_URL ends at the port)".into(),
        Api::Gemini => "POST /v1beta/models/MODEL:generateContent".into(),
        Api::Bedrock | Api::Plain => format!("/{provider}/..."),
    }
}

/// The refusal of a model that nobody knows.
fn unknown(outbound: &Outbound, api: Api, asked: &str) -> String {
    let near = nearest(asked, &names(outbound, api));
    let shown: String = asked.chars().take(128).collect();
    let listed = |names: Vec<String>| names.join(", ");
    let hint = match &near[..] {
        [] => {
            let speak = outbound.providers.iter().filter(|provider| provider.api == api).take(3);
            format!("; it could be {}", listed(speak.map(|provider| format!("`{}/{shown}`", provider.name)).collect()))
        }
        near => format!("; near are {}", listed(near.iter().map(|name| format!("`{name}`")).collect())),
    };
    format!("no model is called `{shown}`{hint}; write one of outbound.models, or provider/model, or let a `default_provider` take it")
}

/// The names that a call of `api` may write, aliases first: literal names of `models`, and the models that they lead to, as provider/model.
fn names(outbound: &Outbound, api: Api) -> Vec<String> {
    let rules = &outbound.models.rules;
    let speaks = |aim: &&ModelAim| outbound.providers[aim.provider].api == api;
    let aliases = rules.iter().filter(|rule| rule.name.is_literal() && rule.aims.iter().any(|aim| speaks(&aim)));
    let mut names: Vec<String> = aliases.map(|rule| rule.name.as_str().to_owned()).collect();
    for aim in rules.iter().flat_map(|rule| &rule.aims).filter(speaks) {
        let Some(model) = &aim.model else { continue };
        let name = format!("{}/{model}", outbound.providers[aim.provider].name);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The three names that are most like `asked`.
fn nearest(asked: &str, names: &[String]) -> Vec<String> {
    const ALIKE: f64 = 0.75;
    let asked: String = asked.chars().take(128).flat_map(char::to_lowercase).collect();
    let alike = |name: &str| {
        let name = name.to_lowercase();
        let model = name.split_once('/').map_or(&*name, |(_, model)| model);
        strsim::jaro_winkler(&asked, &name).max(strsim::jaro_winkler(&asked, model))
    };
    let mut all: Vec<(f64, &String)> = names.iter().map(|name| (alike(name), name)).filter(|(alike, _)| *alike >= ALIKE).collect();
    all.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    all.into_iter().take(3).map(|(_, name)| name.clone()).collect()
}

/// The list of models that calls of `api` may name, in that API's shape.
pub fn model_list(outbound: &Outbound, api: Api) -> Value {
    let names = names(outbound, api);
    let all: Vec<Value> = names.iter().map(|name| entry(outbound, api, name)).collect();
    match api {
        Api::Anthropic => json!({"data": all, "has_more": false, "first_id": names.first(), "last_id": names.last()}),
        Api::Gemini => json!({"models": all}),
        Api::OpenAi | Api::Bedrock | Api::Plain => json!({"object": "list", "data": all}),
    }
}

/// One model of the list, in the API's shape; `None`: it is not in the list.
pub fn listed_model(outbound: &Outbound, api: Api, name: &str) -> Option<Value> {
    names(outbound, api).iter().any(|known| known == name).then(|| entry(outbound, api, name))
}

fn entry(outbound: &Outbound, api: Api, name: &str) -> Value {
    let owner = choose(outbound, api, Some(name)).ok().map(|choice| &outbound.providers[choice.provider].name);
    match api {
        // The name is not older than the file that says it: no time is known.
        Api::Anthropic => json!({"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}),
        Api::Gemini => json!({"name": format!("models/{name}"), "displayName": name, "supportedGenerationMethods": ["generateContent"]}),
        Api::OpenAi | Api::Bedrock | Api::Plain => {
            json!({"id": name, "object": "model", "created": 0, "owned_by": owner.map(|owner| &**owner).unwrap_or_default()})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::{self, Overrides};

    fn outbound(rest: &str) -> Outbound {
        let text = format!(
            "outbound: {{providers: {{openai: {{}}, azure: {{api: openai, url: 'http://a', keys: [k]}}, anthropic: {{}}, local: {{api: plain, url: 'http://l'}}}}, {rest}}}"
        );
        let config = read::parse(&text, "proxy.yaml", &Overrides::default(), &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        config.outbound.expect("open")
    }

    const MODELS: &str = "models: {fast: openai/gpt-4o-mini, smart: [anthropic/claude-opus-5, azure/gpt-6, openai/gpt-5], 'azure/own': openai/x, \
        'gpt-*': openai, 'gpt-4*': azure/gpt-four, pipe: local}";

    #[test]
    fn alias_then_prefix_then_pattern_then_default() {
        let outbound = outbound(&format!("{MODELS}, default_provider: azure"));
        for (asked, provider, model, rest) in [
            (Some("fast"), 0, Some("gpt-4o-mini"), 0),
            (Some("smart"), 1, Some("gpt-6"), 1),
            (Some("azure/own"), 0, Some("x"), 0),
            (Some("azure/other"), 1, Some("other"), 0),
            (Some("openai/org/model"), 0, Some("org/model"), 0),
            (Some("gpt-5"), 0, None, 0),
            (Some("gpt-4o"), 1, Some("gpt-four"), 0),
            (Some("meta/llama"), 1, None, 0),
            (Some("fsat"), 1, None, 0),
            (None, 1, None, 0),
        ] {
            let choice = choose(&outbound, Api::OpenAi, asked).unwrap_or_else(|why| panic!("{asked:?}: {why}"));
            assert_eq!((choice.provider, choice.model.as_deref(), choice.rest.len()), (provider, model, rest), "{asked:?}");
        }
        assert_eq!(choose(&outbound, Api::Anthropic, Some("smart")).map(|choice| choice.provider), Ok(2));
    }

    #[test]
    fn what_nothing_takes_is_refused_with_what_would_be_right() {
        let outbound = outbound(MODELS);
        for (api, asked, parts) in [
            (Api::OpenAi, Some("fsat"), &["no model is called `fsat`", "near are `fast`"][..]),
            (Api::OpenAi, Some("opnai/gpt-4o-mni"), &["`openai/gpt-4o-mini`"]),
            (Api::OpenAi, Some("zebra"), &["no model is called `zebra`; it could be `openai/zebra`, `azure/zebra`; write one of"]),
            (
                Api::OpenAi,
                Some("anthropic/claude"),
                &["speaks openai: a call is not translated; `anthropic` speaks anthropic: ask POST /v1/messages"],
            ),
            (Api::Anthropic, Some("fast"), &["ask POST /v1/chat/completions"]),
            (Api::OpenAi, Some("pipe"), &["ask /local/..."]),
            (Api::OpenAi, None, &["names neither a provider nor a model", "/openai/..."]),
        ] {
            let why = choose(&outbound, api, asked).expect_err("refused");
            assert!(parts.iter().all(|part| why.contains(part)), "{why}");
        }
    }

    #[test]
    fn the_list_has_the_names_of_one_api_in_its_shape() {
        let outbound = outbound(MODELS);
        let ids = |list: &Value| {
            list["data"].as_array().expect("a list").iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
        };
        let list = model_list(&outbound, Api::OpenAi);
        assert_eq!(
            ids(&list),
            ["azure/own", "smart", "fast", "openai/x", "azure/gpt-6", "openai/gpt-5", "openai/gpt-4o-mini", "azure/gpt-four"]
        );
        assert_eq!(list["data"][1], json!({"id": "smart", "object": "model", "created": 0, "owned_by": "azure"}));
        let list = model_list(&outbound, Api::Anthropic);
        assert_eq!(
            (ids(&list), &list["last_id"]),
            (vec!["smart".into(), "anthropic/claude-opus-5".into()], &json!("anthropic/claude-opus-5"))
        );
        assert!(listed_model(&outbound, Api::OpenAi, "fast").is_some() && listed_model(&outbound, Api::Anthropic, "fast").is_none());
    }

    #[test]
    fn the_version_stands_once() {
        for (base, at) in
            [("", "/v1/chat"), ("/openai", "/v1/chat"), ("/openai/v1", "/chat"), ("/v1beta/openai", "/chat"), ("/v4", "/chat")]
        {
            assert_eq!(below(base, "/v1/chat"), at, "{base}");
        }
    }

    #[test]
    fn a_request_for_models_is_told_from_others() {
        let one = |name: &str| Some(Some(name.to_owned()));
        assert_eq!(listing(&Method::GET, "/v1/models"), Some(None));
        assert_eq!(listing(&Method::GET, "/v1/models/openai/gpt-4o"), one("openai/gpt-4o"));
        assert_eq!(listing(&Method::GET, "/v1beta/models/a%20b"), one("a b"));
        assert_eq!(
            (listing(&Method::GET, "/v1/modelsx"), listing(&Method::DELETE, "/v1/models/a"), listing(&Method::GET, "/v1")),
            (None, None, None)
        );
    }

    #[test]
    fn the_path_says_the_api() {
        for (path, anthropic, api) in [
            ("/v1/chat/completions", false, Api::OpenAi),
            ("/v1/messages", false, Api::Anthropic),
            ("/v1/messages/batches/b/results", false, Api::Anthropic),
            ("/v1/models", false, Api::OpenAi),
            ("/v1/models", true, Api::Anthropic),
            ("/v1beta/models/fast:generateContent", false, Api::Gemini),
        ] {
            assert_eq!(api_of(&Method::POST, path, anthropic), api, "{path}");
        }
    }
}
