//! `outbound.models` and `outbound.default_provider`: where a call goes whose path names no provider.

use std::{collections::HashSet, sync::Arc};

use super::provider::{self, Api, PROVIDER_NAME, Provider};
use crate::config::{
    Glob, Scheme,
    build::Build,
    error::quoted,
    scalars::{W, Word},
    schema::{Json, Key, Kind, Scalar},
    written::{Items, Pairs},
};

/// A name of `models`, and the providers that answer to it.
#[derive(Debug, Clone)]
pub struct ModelRule {
    /// An alias, or a pattern of model names.
    pub name: Glob,
    /// The places in order; the next of the same API comes where one fails.
    pub aims: Vec<ModelAim>,
}

/// One place of a [`ModelRule`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelAim {
    /// Index into [`Outbound::providers`](crate::config::Outbound::providers).
    pub provider: usize,
    /// The model to ask for. `None`: the one that the app names.
    pub model: Option<Arc<str>>,
}

/// The providers of calls without a provider in their path.
#[derive(Debug, Clone, Default)]
pub struct Models {
    /// Aliases first, then patterns, the most specific first; equal ones stay in the order of the file.
    pub rules: Vec<ModelRule>,
    /// Indexes of the providers that take every other call, at most one for each API.
    pub defaults: Vec<usize>,
    /// Whether `models` or `default_provider` is written.
    written: bool,
}

impl Models {
    /// The provider that takes a call of `api` whose model no rule names: the written one. Where neither key is written, the only provider
    /// that speaks the API.
    pub fn default_of(&self, providers: &[Provider], api: Api) -> Option<usize> {
        let written = self.defaults.iter().copied().find(|at| providers[*at].api == api);
        written.or_else(|| if self.written { None } else { only(providers, api) })
    }

    /// The provider for whom the app's own credential is meant, of calls of `api`: the written default, else the only provider that speaks
    /// the API. `None`: nobody can tell, and no provider is shown it.
    pub fn owner_of(&self, providers: &[Provider], api: Api) -> Option<usize> {
        self.defaults.iter().copied().find(|at| providers[*at].api == api).or_else(|| only(providers, api))
    }
}

/// Whether a path segment is the version of an API (`v1`, `v1beta`): a path that begins with one names no provider.
pub fn names_version(segment: &str) -> bool {
    let digits = segment.strip_prefix('v').unwrap_or_default();
    segment.len() <= 10 && digits.starts_with(|c: char| c.is_ascii_digit()) && digits.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn only(providers: &[Provider], api: Api) -> Option<usize> {
    let mut found = providers.iter().enumerate().filter(|(_, provider)| provider.api == api).map(|(at, _)| at);
    found.next().filter(|_| found.next().is_none())
}

/// A name of `models`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ModelName(String);

impl Word for ModelName {
    fn word(text: &str) -> Result<Self, String> {
        match text.len() <= 128 && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\?#".contains(&b)) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("{} is not a model name; use up to 128 visible characters without blanks, quotes, \\ ? #", quoted(text))),
        }
    }
}

/// `provider` or `provider/model`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Aim {
    provider: String,
    model: Option<String>,
}

impl Word for Aim {
    fn word(text: &str) -> Result<Self, String> {
        let (provider, model) = text.split_once('/').map_or((text, None), |(provider, model)| (provider, Some(model)));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        let is_provider = !provider.is_empty() && provider.chars().all(plain);
        let is_model = model.is_none_or(|model| ModelName::word(model).is_ok() && !model.is_empty() && !model.contains('*'));
        match is_provider && is_model {
            true => Ok(Self { provider: provider.to_owned(), model: model.map(str::to_owned) }),
            false => {
                Err(format!("{} is not a place for calls; write `openai/gpt-4o-mini`, or `openai` for the model as asked", quoted(text)))
            }
        }
    }
}

static MODEL_NAME: Scalar = Scalar::new::<ModelName>("a model name, `*` for any characters", Json::Text, "fast");
static AIM: Scalar =
    Scalar::new::<Aim>("a provider, or provider/model", Json::Pattern("^[a-z0-9_-]{1,64}(/[^*]+)?$"), "openai/gpt-4o-mini");

static AIM_KIND: Kind = Kind::Scalar(&AIM);
static AIMS: Kind = Kind::OneOrMany(&AIM_KIND);
static PROVIDER_KIND: Kind = Kind::Scalar(&PROVIDER_NAME);

/// The rows.
pub(in crate::config) const KEY: Key = Key::new(
    "models",
    Kind::Map { key: &MODEL_NAME, of: &AIMS },
    "Names for calls whose path names no provider (`OPENAI_BASE_URL=http://127.0.0.1:8081/v1`): an alias, or a pattern of model names, with a \
     provider or provider/model. Of several the next one with the same API comes where one fails.",
)
.eg("{fast: openai/gpt-4o-mini, \"gpt-*\": openai}");
pub(in crate::config) const DEFAULT_KEY: Key = Key::new(
    "default_provider",
    Kind::OneOrMany(&PROVIDER_KIND),
    "The provider of every other call whose path names none, at most one for each API; the app's own credential is meant for it.",
)
.says("the only provider that speaks the API, where `models` is not written either")
.eg("openai");

/// As written.
pub(in crate::config) type Written = (Pairs<Items<W<Aim>>>, Items<W<String>>);

pub(in crate::config) fn build(build: &mut Build<'_>, (models, defaults): Written, providers: &[Provider]) -> Models {
    let written = ["models", "default_provider"].iter().any(|key| build.seen.written(&format!("outbound.{key}")));
    let find = |build: &mut Build<'_>, name: &str, path: &str| {
        let found = providers.iter().position(|provider| *provider.name == *name);
        if found.is_none() {
            provider::unknown(build, name, path, providers);
        }
        found
    };
    let mut taken: Vec<usize> = Vec::new();
    for (n, name) in defaults.into_iter().enumerate().filter_map(|(n, name)| Some((n, name?.0))) {
        let path = match build.seen.written("outbound.default_provider[0]") {
            true => format!("outbound.default_provider[{n}]"),
            false => "outbound.default_provider".to_owned(),
        };
        let Some(at) = find(build, &name, &path) else { continue };
        if let Some(other) = taken.iter().find(|other| providers[**other].api == providers[at].api) {
            let message = format!(
                "`{name}` and `{}` both speak {}: only one provider can take the calls that no name is for",
                providers[*other].name, providers[at].api
            );
            build.fault(build.seen.value(&path), message);
            continue;
        }
        taken.push(at);
    }
    let mut rules = Vec::new();
    for (name, aims) in models {
        let path = format!("outbound.models.{name}");
        let several = build.seen.written(&format!("{path}[0]"));
        if aims.as_ref().is_none_or(Vec::is_empty) && !build.seen.broken(&path) {
            build.fault(build.seen.key(&path), format!("{} has no place: write a provider, such as `{name}: openai`", quoted(&name)));
        }
        let mut meant = Vec::new();
        for (n, aim) in aims.into_iter().flatten().enumerate().filter_map(|(n, aim)| Some((n, aim?.0))) {
            let here = if several { format!("{path}[{n}]") } else { path.clone() };
            if let Some(provider) = find(build, &aim.provider, &here) {
                meant.push(ModelAim { provider, model: aim.model.map(Arc::from) });
            }
        }
        say_parted(build, &path, &meant, providers);
        rules.push(ModelRule { name: Glob::new(name), aims: meant });
    }
    rules.sort_by_key(|rule| std::cmp::Reverse((rule.name.is_literal(), rule.name.literal_len())));
    let models = Models { rules, defaults: taken, written };
    if written {
        say_hidden(build, providers);
        say_keyless(build, &models, providers);
    }
    models
}

/// Remarks where the places of one name speak several APIs: none of them comes after one that speaks another.
fn say_parted(build: &mut Build<'_>, path: &str, aims: &[ModelAim], providers: &[Provider]) {
    let known = |aim: &&ModelAim| !build.vague.iter().any(|name| **name == *providers[aim.provider].name);
    let mut apis: Vec<Api> = aims.iter().filter(known).map(|aim| providers[aim.provider].api).collect();
    apis.sort();
    apis.dedup();
    if apis.len() > 1 {
        let list: Vec<String> = apis.iter().map(ToString::to_string).collect();
        let message = format!(
            "the places speak {}: a call is not translated, so each kind of call has those of its own API alone, and falls back among them",
            list.join(" and ")
        );
        build.note(build.seen.value(path), message);
    }
}

/// Finds providers whose names are the first segment of every path without a provider.
fn say_hidden(build: &mut Build<'_>, providers: &[Provider]) {
    for provider in providers.iter().filter(|provider| names_version(&provider.name)) {
        let at = build.seen.key(&format!("outbound.providers.{}", provider.name));
        build.fault(
            at,
            format!("`{0}` also begins every path that names no provider (/{0}/...): give the provider another name", provider.name),
        );
    }
}

/// Remarks where calls leave without a credential: the app's own is for another provider.
fn say_keyless(build: &mut Build<'_>, models: &Models, providers: &[Provider]) {
    let aimed: HashSet<usize> = models.rules.iter().flat_map(|rule| &rule.aims).map(|aim| aim.provider).collect();
    for (at, provider) in providers.iter().enumerate().filter(|(at, _)| aimed.contains(at)) {
        let owner = models.owner_of(providers, provider.api);
        let local = provider.url.scheme == Scheme::Http;
        if provider.keys.is_empty() && owner != Some(at) && !local {
            let whose = owner.map_or("nobody's that can be told".to_owned(), |owner| format!("for `{}`", providers[owner].name));
            let message = format!(
                "calls that reach `{}` by a name of `models` carry no credential: the app's own is {whose}; write `keys`, or `default_provider`",
                provider.name
            );
            build.note(build.seen.key(&format!("outbound.providers.{}", provider.name)), message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        error::did_you_mean,
        scalars::tests::refused,
        testing::{good, says},
    };

    fn outbound(rest: &str) -> String {
        format!("outbound:\n  providers: {{openai: {{}}, azure: {{api: openai, url: 'http://a'}}, anthropic: {{}}}}\n  {rest}\n")
    }

    fn models(rest: &str) -> (Models, Vec<Provider>) {
        let outbound = good(&outbound(rest)).outbound.expect("open");
        (outbound.models, outbound.providers)
    }

    #[test]
    fn aliases_come_before_patterns_and_long_patterns_before_short_ones() {
        let (models, _) =
            models("models: {'*': openai, 'claude-*': anthropic, fast: openai/gpt-4o-mini, smart: [anthropic/claude-opus-5, azure/gpt-6]}");
        let names: Vec<&str> = models.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, ["smart", "fast", "claude-*", "*"]);
        assert_eq!(models.rules[0].aims.len(), 2);
        assert_eq!(models.rules[1].aims, [ModelAim { provider: 0, model: Some("gpt-4o-mini".into()) }]);
        assert_eq!(models.rules[2].aims, [ModelAim { provider: 2, model: None }]);
    }

    #[test]
    fn the_default_is_the_written_one_and_the_credential_is_its_own() {
        let (none, providers) = models("metering: exact");
        assert_eq!((none.default_of(&providers, Api::OpenAi), none.default_of(&providers, Api::Anthropic)), (None, Some(2)));
        let (written, _) = models("default_provider: [azure, anthropic]");
        assert_eq!((written.default_of(&providers, Api::OpenAi), written.default_of(&providers, Api::Anthropic)), (Some(1), Some(2)));
        assert_eq!(written.owner_of(&providers, Api::OpenAi), Some(1));
        let (names, _) = models("models: {fast: azure/gpt}");
        assert_eq!((names.default_of(&providers, Api::Anthropic), names.owner_of(&providers, Api::Anthropic)), (None, Some(2)));
        assert_eq!(names.owner_of(&providers, Api::OpenAi), None, "two speak it, and none is written");
    }

    #[test]
    fn a_name_that_leads_nowhere_is_a_mistake() {
        says(&outbound("models: {fast: opnai/gpt-4o}"), "3:18", "there is no provider `opnai`; did you mean `openai`?");
        says(&outbound("models: {smart: [anthropic/c, nope/x]}"), "3:33", "there is no provider `nope`");
        says(&outbound("models: {fast: /gpt-4o}"), "3:18", "write `openai/gpt-4o-mini`");
        says(&outbound("models: {fast: []}"), "3:12", "`fast` has no place");
        says(&outbound("default_provider: [openai, azure]"), "3:30", "`azure` and `openai` both speak openai");
        says(&outbound("default_provider: nope"), "3:21", "there is no provider `nope`");
        says(
            "outbound: {providers: {v1: {api: openai, url: 'http://a'}}, default_provider: v1}\n",
            "1:24",
            "give the provider another name",
        );
        refused::<ModelName>("a b", "is not a model name");
        assert!(did_you_mean("opnai", ["openai"]).contains("openai"));
    }

    #[test]
    fn a_version_is_no_provider() {
        for (segment, is) in
            [("v1", true), ("v1beta", true), ("v4", true), ("v", false), ("openai", false), ("video", false), ("v1-x", false)]
        {
            assert_eq!(names_version(segment), is, "{segment}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_place_panic(text in "\\PC{0,40}") {
            let _ = (Aim::word(&text), ModelName::word(&text), names_version(&text));
        }
    }
}
