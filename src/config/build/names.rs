//! Names: of routes and limits that have none, and of providers that everybody knows.

use crate::config::{Api, Match, Operation, Scheme};

/// Longest name that is made; metrics labels stay readable, and the rest is told apart by a hash.
const LONGEST: usize = 96;

/// A provider that needs no `api` and `url`. The app's path follows `url`, so that `/NAME/v1/...` works for all of them.
pub(super) fn known_provider(name: &str) -> Option<(Api, &'static str)> {
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
pub(super) const KNOWN_PROVIDERS: [&str; 11] =
    ["openai", "anthropic", "gemini", "bedrock", "groq", "mistral", "together", "deepseek", "openrouter", "xai", "ollama"];

/// What an API can be asked for: with it, a route that names an operation names its possible providers.
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

/// A route's name, made from its match.
pub(super) fn route(matches: &Match) -> String {
    let mut parts = Vec::new();
    if !matches.methods.is_empty() {
        parts.push(matches.methods.iter().map(|m| m.as_str()).collect::<Vec<_>>().join("|"));
    }
    if !matches.hosts.is_empty() {
        parts.push(matches.hosts.iter().map(|h| h.as_str()).collect::<Vec<_>>().join("|"));
    }
    if let Some(path) = &matches.path {
        parts.push(path.as_str().to_owned());
    }
    if !matches.providers.is_empty() {
        parts.push(matches.providers.join("|"));
    }
    if !matches.operations.is_empty() {
        parts.push(matches.operations.iter().map(|o| o.as_str()).collect::<Vec<_>>().join("|"));
    }
    if !matches.models.is_empty() {
        parts.push(matches.models.iter().map(|m| m.as_str()).collect::<Vec<_>>().join("|"));
    }
    for (name, value) in &matches.headers {
        parts.push(match value {
            // The value may be a secret, and the name stands in metrics and logs: 24 bits of a hash tell values apart.
            Some(value) => format!("{name}=#{}", &blake3::hash(value.as_bytes()).to_hex()[..6]),
            None => name.as_str().to_owned(),
        });
    }
    if parts.is_empty() { "*".to_owned() } else { bounded(parts.join(" ")) }
}

/// ASCII without quotes (names stand in header values), and not too long.
pub(in crate::config) fn bounded(name: String) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_graphic() && !"\"\\".contains(c) || c == ' ' { c } else { '_' }).collect();
    if plain.len() <= LONGEST && plain == name {
        return plain;
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let cut = plain.len().min(LONGEST - 9);
    format!("{}~{}", &plain[..cut], &hash[..8])
}

/// Whether a URL sends credentials in the clear to another machine.
pub(super) fn is_exposed(url: &crate::config::Origin) -> bool {
    let local = url.host == "localhost" || url.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme == Scheme::Http && !local
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Glob, Origin, PathPattern};

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
    fn a_route_is_named_by_its_match() {
        let mut matches =
            Match { path: PathPattern::parse("/api/**").ok(), methods: vec![http::Method::GET, http::Method::HEAD], ..Match::default() };
        assert_eq!(route(&matches), "GET|HEAD /api/**");
        matches.headers.push((http::HeaderName::from_static("x-beta"), None));
        assert_eq!(route(&matches), "GET|HEAD /api/** x-beta");
        let secret = |value| {
            let field = (http::HeaderName::from_static("x-key"), Some(http::HeaderValue::from_static(value)));
            route(&Match { headers: vec![field], ..Match::default() })
        };
        assert!(secret("hunter2").starts_with("x-key=#") && !secret("hunter2").contains("hunter"), "{}", secret("hunter2"));
        assert_ne!(secret("hunter2"), secret("hunter3"));
        assert_eq!(route(&Match::default()), "*");
        let outbound = Match { operations: vec![Operation::Chat], models: vec![Glob::new("gpt-*")], ..Match::default() };
        assert_eq!(route(&outbound), "chat gpt-*");
    }

    #[test]
    fn long_names_stay_apart() {
        let path = |end: &str| Match { path: PathPattern::parse(&format!("/{}{end}", "a".repeat(200))).ok(), ..Match::default() };
        let (one, two) = (route(&path("1")), route(&path("2")));
        assert!(one != two && one.len() <= LONGEST && two.len() <= LONGEST);
    }
}
