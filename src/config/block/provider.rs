//! `outbound.providers`: places to send model calls. A known name brings its API and its URL.

use std::{fmt, sync::Arc};

use serde::Deserialize;

use super::{keys, members, target, tls};
use crate::config::{
    Members, Operation, Origin, Protocol, ProviderKey, Scheme, TargetTls,
    build::{Build, whole},
    error::{Fault, did_you_mean, nearest, quoted},
    scalars::{Count, W, Word, words},
    schema::{Json, Key, Kind, Scalar, Table},
    written::{Items, Pairs},
};

/// One place to send model calls.
#[derive(Debug, Clone)]
pub struct Provider {
    /// First path segment of its calls; label of metrics.
    pub name: Arc<str>,
    /// Wire format.
    pub api: Api,
    /// Base URL. Its path is a prefix of every request.
    pub url: Origin,
    /// The addresses, if there are several; `url` is the first.
    pub members: Option<Members>,
    /// TLS with the provider. It has an effect where the URL is https.
    pub tls: TargetTls,
    /// Version of HTTP that is spoken with the provider.
    pub protocol: Protocol,
    /// Most connections to the provider, over all workers.
    pub max_connections: usize,
    /// Keys that replace the app's credential. Empty: the app's credential passes through.
    pub keys: Vec<ProviderKey>,
}

impl Provider {
    /// The version of the API that its URL ends in (`v1`); calls to it then have none of their own. `None`: calls bring the version.
    pub fn version(&self) -> Option<String> {
        let url = self.url.to_string();
        let last = url.rsplit('/').next()?;
        last.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).map(|_| last.to_owned())
    }
}

/// The wire format of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Api {
    OpenAi,
    Anthropic,
    Gemini,
    Bedrock,
    /// Calls that are passed through and not understood.
    Plain,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::Plain => "plain",
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    api: Option<W<Api>>,
    #[serde(default)]
    url: Items<members::Written>,
    balance: Option<members::WrittenBalance>,
    #[serde(default)]
    keys: Items<keys::Written>,
    tls: Option<tls::WrittenTarget>,
    protocol: W<Protocol>,
    max_connections: W<Count>,
}

/// Name of a provider: the first path segment of its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ProviderName(String);

impl Word for ProviderName {
    fn word(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        if !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{} is not a provider name; it is a path segment: use lower-case letters, digits, - and _", quoted(text)))
        }
    }
}

words! {
    Api: "openai" => Self::OpenAi, "anthropic" => Self::Anthropic, "gemini" => Self::Gemini, "bedrock" => Self::Bedrock, "plain" => Self::Plain;
}

const API: Kind =
    Kind::Scalar(&Scalar::new::<Api>("an API", Json::Words(&["openai", "anthropic", "gemini", "bedrock", "plain"]), "openai"));
/// The name of a provider in the file.
pub(in crate::config) static PROVIDER_NAME: Scalar =
    Scalar::new::<ProviderName>("a provider name", Json::Pattern("^[a-z0-9_-]{1,64}$"), "openai");

/// The rows.
pub(in crate::config) static TABLE: Table = Table::new(
    "provider",
    "One place to send model calls; its name is the first path segment of the app's base URL, such as http://127.0.0.1:8081/openai/v1.",
    &[
        Key::new("api", API, "The wire format.").says("known for known names, else required"),
        Key::new(
            "url",
            members::ADDRESSES,
            "Base URL; its path is a prefix of every request. A list: several endpoints with the same keys and models.",
        )
        .says("known for known names, else required")
        .eg("\"http://models.internal/v1\""),
        members::balance("balance"),
        keys::ROW,
        tls::target_tls("tls"),
        target::protocol("protocol"),
        target::max_connections("max_connections"),
    ],
)
.foreign(&[
    ("key", "write `keys`"),
    ("base_url", "write `url`"),
    ("models", "models are matched in routes; names for calls are written in `outbound.models`"),
]);

/// The providers as meant. A provider with a mistake keeps its place: routes and fallbacks are checked against it.
pub(in crate::config) fn build(build: &mut Build<'_>, written: Pairs<Written>) -> Vec<Provider> {
    let elsewhere = KNOWN_PROVIDERS.iter().any(|name| build.seen.is_unknown(name));
    if written.is_empty() && build.seen.written("outbound.providers") && !build.seen.broken("outbound.providers") && !elsewhere {
        build.fault(build.seen.key("outbound.providers"), "outbound needs a provider, such as `providers: {openai: {}}`");
    }
    let mut out = Vec::new();
    for (name, provider) in written {
        let path = format!("outbound.providers.{name}");
        let Some(provider) = provider else {
            continue;
        };
        let known = known_provider(&name);
        let api = provider.api.map(|api| api.0).or(known.map(|(api, _)| api));
        let api = if name == "bedrock" { api.or(Some(Api::Bedrock)) } else { api };
        let asked = members::Asked { urls: &format!("{path}.url"), balance: &format!("{path}.balance"), inbound: false };
        let (listed, members) = members::build(build, &asked, provider.url, provider.balance);
        let url = listed.or_else(|| known.and_then(|(_, url)| Origin::parse(url).ok())).or_else(|| bedrock(build, &name));
        let mut missing = Vec::new();
        if api.is_none() && !build.seen.broken(&format!("{path}.api")) {
            missing.push("`api`");
        }
        if url.is_none() && !build.seen.broken(&format!("{path}.url")) {
            missing.push("`url`");
        }
        if !missing.is_empty() {
            let at = build.seen.key(&path);
            if name == "bedrock" {
                build.fault(at, "bedrock needs `url: https://bedrock-runtime.REGION.amazonaws.com`, or AWS_REGION in the environment");
            } else {
                let hint = did_you_mean(&name, KNOWN_PROVIDERS);
                let hint = if hint.is_empty() { ", such as `{api: openai, url: \"http://models.internal/v1\"}`".to_owned() } else { hint };
                build.fault(at, format!("{} is not a known provider and needs {}{hint}", quoted(&name), missing.join(" and ")));
            }
        }
        if api.is_none() {
            build.vague.push(name.clone());
        }
        let keys = keys::build(build, &format!("{path}.keys"), provider.keys);
        if let (Some(url), false) = (&url, keys.is_empty())
            && Members::urls(url, members.as_ref()).any(is_exposed)
        {
            build.note(build.seen.key(&path), format!("the keys of `{name}` travel in the clear: its URL is http and not on this machine"));
        }
        let tls = tls::target(build, &format!("{path}.tls"), provider.tls, url.as_ref());
        let placeholder = || Origin { scheme: Scheme::Http, host: String::new(), port: 0, base: String::new() };
        out.push(Provider {
            name: Arc::from(name.as_str()),
            api: api.unwrap_or(Api::Plain),
            url: url.unwrap_or_else(placeholder),
            members,
            keys,
            tls,
            protocol: provider.protocol.0,
            max_connections: whole(&provider.max_connections),
        });
    }
    out
}

/// Bedrock's URL depends on the region. <https://docs.aws.amazon.com/general/latest/gr/bedrock.html>
fn bedrock(build: &Build<'_>, name: &str) -> Option<Origin> {
    let region = (name == "bedrock").then(|| (build.env)("AWS_REGION").or_else(|| (build.env)("AWS_DEFAULT_REGION")))??;
    let plain = !region.is_empty() && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    plain.then(|| Origin::parse(&format!("https://bedrock-runtime.{region}.amazonaws.com")).ok())?
}

/// Reports a name that stands for no provider, unless a provider with a mistake may be meant.
pub(in crate::config) fn unknown(build: &mut Build<'_>, name: &str, path: &str, providers: &[Provider]) {
    let named = format!("outbound.providers.{name}");
    // A provider that nobody knows is most likely this one, misspelt.
    let slip = nearest(name, build.vague.iter().map(String::as_str)).is_some();
    if providers.is_empty() || build.seen.broken(&named) || slip || build.seen.is_unknown(name) {
        return;
    }
    let at = build.seen.value(path);
    match build.strangers.iter_mut().find(|(known, ..)| known == name) {
        Some((_, _, lines)) => lines.push(at.line),
        None => {
            let message = no_such("provider", name, providers.iter().map(|provider| &*provider.name));
            build.strangers.push((name.to_owned(), Fault::new(at, message), Vec::new()));
        }
    }
}

/// Reports each unknown name once, with all its places.
pub(in crate::config) fn say_strangers(build: &mut Build<'_>) {
    for (_, mut fault, lines) in std::mem::take(&mut build.strangers) {
        let others: Vec<String> = lines.iter().filter(|line| **line != fault.at.line).map(ToString::to_string).collect();
        match &others[..] {
            [] => {}
            [line] => fault.message += &format!(" (also at line {line})"),
            lines => fault.message += &format!(" (also at lines {})", lines.join(", ")),
        }
        build.faults.push(fault);
    }
}

/// The message of a name that is none of `known`.
fn no_such<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    let hint = did_you_mean(name, known.clone());
    if !hint.is_empty() {
        return format!("there is no {what} {}{hint}", quoted(name));
    }
    let list: Vec<String> = known.map(|name| format!("`{name}`")).collect();
    if list.is_empty() {
        format!("there is no {what} {}", quoted(name))
    } else {
        format!("there is no {what} {}; there are {}", quoted(name), list.join(", "))
    }
}

/// API and URL of a provider that needs neither in the file. The app's path follows the URL: `/NAME/v1/...` works for all of them.
fn known_provider(name: &str) -> Option<(Api, &'static str)> {
    Some(match name {
        "openai" => (Api::OpenAi, "https://api.openai.com"),
        "anthropic" => (Api::Anthropic, "https://api.anthropic.com"),
        "gemini" => (Api::Gemini, "https://generativelanguage.googleapis.com"),
        // console.groq.com/docs/openai
        "groq" => (Api::OpenAi, "https://api.groq.com/openai"),
        // docs.mistral.ai/api
        "mistral" => (Api::OpenAi, "https://api.mistral.ai"),
        // docs.together.ai/docs/inference/openai-compatibility
        "together" => (Api::OpenAi, "https://api.together.ai"),
        // api-docs.deepseek.com
        "deepseek" => (Api::OpenAi, "https://api.deepseek.com"),
        // openrouter.ai/docs/quickstart
        "openrouter" => (Api::OpenAi, "https://openrouter.ai/api"),
        // docs.x.ai/docs/api-reference
        "xai" => (Api::OpenAi, "https://api.x.ai"),
        // ollama.com/blog/openai-compatibility
        "ollama" => (Api::OpenAi, "http://127.0.0.1:11434"),
        _ => return None,
    })
}

/// Every name that [`known_provider`] knows, and `bedrock`, whose URL depends on the region.
const KNOWN_PROVIDERS: [&str; 11] =
    ["openai", "anthropic", "gemini", "bedrock", "groq", "mistral", "together", "deepseek", "openrouter", "xai", "ollama"];

/// Whether a provider of this API takes calls of this operation.
pub(in crate::config) fn offers(api: Api, operation: Operation) -> bool {
    use Operation::{Chat, Completions, Embeddings, Images, Messages, Models, Other};
    match api {
        Api::OpenAi => !matches!(operation, Messages),
        Api::Anthropic => matches!(operation, Messages | Completions | Models | Other),
        Api::Gemini => matches!(operation, Chat | Embeddings | Images | Models | Other),
        Api::Bedrock => matches!(operation, Chat | Messages | Embeddings | Models | Other),
        Api::Plain => matches!(operation, Other),
    }
}

/// Whether a URL sends credentials in the clear to another machine.
fn is_exposed(url: &Origin) -> bool {
    let local = url.host == "localhost" || url.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme == Scheme::Http && !local
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{scalars::tests::refused, testing::says};

    #[test]
    fn every_known_provider_has_a_url_that_parses() {
        for name in KNOWN_PROVIDERS {
            match known_provider(name) {
                Some((_, url)) => assert!(Origin::parse(url).is_ok(), "{name}"),
                None => assert_eq!(name, "bedrock"),
            }
        }
        assert!(known_provider("house").is_none());
    }

    #[test]
    fn a_name_that_nobody_knows_needs_an_api_and_a_url() {
        says("outbound: {providers: {house: {}}}\n", "1:24", "needs `api` and `url`");
        says("outbound: {providers: {opneai: {}}}\n", "1:24", "did you mean `openai`?");
        says("outbound: {providers: {}}\n", "1:12", "needs a provider");
        says("outbound: {providers: {bedrock: {}}}\n", "1:24", "AWS_REGION");
        refused::<ProviderName>("OpenAI", "lower-case");
        refused::<Api>("open_ai", "did you mean `openai`");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_name_panic(text in "\\PC{0,40}") {
            let _ = ProviderName::word(&text);
        }
    }
}
