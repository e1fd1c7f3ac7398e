//! `privacy`: personal data that does not leave for a model.

mod kinds;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows, cache::FieldPath};
use crate::config::{
    Config, Glob,
    build::Build,
    error::quoted,
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{W, Word, words},
    schema::{
        Elsewhere, Json, Key, Kind, Scalar, Table,
        kinds::{GLOB, NAME_OF_MAP},
    },
    written::{Items, Pairs},
};

pub use kinds::PersonalKind;
use kinds::{KIND_WORDS, KindWord};

/// What happens to personal data in model calls.
#[derive(Debug, Clone)]
pub struct Privacy {
    /// Whether it acts.
    pub mode: Mode,
    /// What happens to what is found.
    pub action: PrivacyAction,
    /// The kinds that are looked for.
    pub find: Vec<PersonalKind>,
    /// The kinds for which a call is refused, whatever the action is.
    pub refuse: Vec<PersonalKind>,
    /// Where the names of the caller stand.
    pub names: Vec<NameSource>,
    /// Patterns of the operator.
    pub patterns: Vec<PersonalPattern>,
    /// Values that are not personal.
    pub allow_values: Vec<Glob>,
    /// Fields of a body that are not looked into, with everything below them.
    pub allow_fields: Vec<FieldPath>,
    /// Whether a request passes whose body cannot be read.
    pub passes_unreadable: bool,
}

/// What happens to personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivacyAction {
    /// A placeholder goes out, and the answer has the value again.
    Placeholder,
    /// The name of its kind goes out. The value is gone.
    Mask,
    /// The call is refused.
    Refuse,
}

impl PrivacyAction {
    /// Its word in the file and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placeholder => "placeholder",
            Self::Mask => "mask",
            Self::Refuse => "refuse",
        }
    }
}

/// Where a name of the caller's own record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameSource {
    /// The caller's name, as limits and logs have it.
    Caller,
    /// A field of the request's head.
    Header(String),
    /// A verified statement of the request's credential.
    Claim(String),
    /// A field of the request's JSON.
    Field(FieldPath),
}

/// A pattern of the operator.
#[derive(Debug, Clone)]
pub struct PersonalPattern {
    /// Its name in metrics.
    pub name: std::sync::Arc<str>,
    /// The label of its placeholders.
    pub label: String,
    /// The pattern. Its time is linear in the text.
    pub regex: Regex,
}

impl Privacy {
    /// Whether a kind is looked for.
    pub fn wants(&self, kind: PersonalKind) -> bool {
        self.find.contains(&kind)
    }

    /// Whether what is sent may differ from what came.
    pub fn changes(&self) -> bool {
        self.mode == Mode::Enforce && self.action != PrivacyAction::Refuse
    }

    /// Whether a request whose body cannot be read is refused.
    pub fn must_read(&self) -> bool {
        self.mode == Mode::Enforce && !self.passes_unreadable
    }

    /// What happens to a kind.
    pub fn does(&self, kind: PersonalKind) -> PrivacyAction {
        if self.refuse.contains(&kind) { PrivacyAction::Refuse } else { self.action }
    }
}

words! {
    PrivacyAction: "placeholder" => PrivacyAction::Placeholder, "mask" => PrivacyAction::Mask, "refuse" => PrivacyAction::Refuse;
    OnUnreadable: "refuse" => Self::Refuse, "pass" => Self::Pass;
}

/// The word of `unreadable:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnUnreadable {
    Refuse,
    Pass,
}

impl Word for NameSource {
    fn word(text: &str) -> Result<Self, String> {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let source = match text.split_once(':') {
            None if text == "caller" => Some(Self::Caller),
            Some(("header", name)) => named(name).map(|name| Self::Header(name.to_ascii_lowercase())),
            Some(("claim", name)) => named(name).map(Self::Claim),
            Some(("field", path)) => Some(Self::Field(FieldPath::word(path)?)),
            _ => None,
        };
        source.ok_or_else(|| {
            format!("{} tells no name; write `caller`, `header:x-user-name`, `claim:name` or `field:metadata.name`", quoted(text))
        })
    }
}

/// A regular expression.
#[derive(Debug)]
struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Word for Pattern {
    fn word(text: &str) -> Result<Self, String> {
        const LARGEST: usize = 1 << 20;
        match RegexBuilder::new(text).size_limit(LARGEST).build() {
            Ok(regex) if regex.is_match("") => Err(format!("{} matches an empty text, so that it is everywhere", quoted(text))),
            Ok(regex) => Ok(Self(regex)),
            Err(error) => {
                let told = error.to_string();
                let last = told.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                Err(format!("{} is no regular expression: {last}", quoted(text)))
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    action: Option<W<PrivacyAction>>,
    #[serde(default)]
    find: Items<W<KindWord>>,
    #[serde(default)]
    refuse: Items<W<KindWord>>,
    #[serde(default)]
    names: Items<W<NameSource>>,
    #[serde(default)]
    patterns: Pairs<W<Pattern>>,
    allow: Option<WrittenAllow>,
    unreadable: Option<W<OnUnreadable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAllow {
    #[serde(default)]
    values: Items<W<Glob>>,
    #[serde(default)]
    fields: Items<W<FieldPath>>,
}

const ACTION: Kind = Kind::Scalar(&Scalar::new::<PrivacyAction>(
    "`placeholder`, `mask` or `refuse`",
    Json::Words(&["placeholder", "mask", "refuse"]),
    "mask",
));
const KIND: Kind = Kind::Scalar(&Scalar::new::<KindWord>("a kind of personal data", Json::Words(KIND_WORDS), "email"));
const NAME_SOURCE: Kind = Kind::Scalar(&Scalar::new::<NameSource>(
    "a source of names",
    Json::Pattern("^(caller|header:.+|claim:.+|field:.+)$"),
    "\"header:x-user-name\"",
));
const PATTERN: Kind = Kind::Scalar(&Scalar::new::<Pattern>("a regular expression", Json::Text, "\"E-[0-9]{6}\""));
const FIELD: Kind = Kind::Scalar(&Scalar::new::<FieldPath>("a field", Json::Text, "metadata.trace"));
const UNREADABLE: Kind = Kind::Scalar(&Scalar::new::<OnUnreadable>("`refuse` or `pass`", Json::Words(&["refuse", "pass"]), "pass"));

static ALLOW: Table = Table::new(
    "privacy.allow",
    "What is not personal, although it looks like it.",
    &[
        Key::new("values", Kind::OneOrMany(&GLOB), "Values, `*` for any characters.").eg("[\"support@example.com\", \"*@example.org\"]"),
        Key::new(
            "fields",
            Kind::OneOrMany(&FIELD),
            "Fields of the JSON that are not looked into, with everything below them. Lists have no name.",
        )
        .eg("[metadata.trace]"),
    ],
);

static TABLE: Table = Table::new(
    "privacy",
    "Finds personal data in the texts of model calls, and sends a placeholder (`[EMAIL_1]`) in its place, or a mask, or nothing. Answers have \
     the values again, streams too.",
    &[
        MODE_KEY,
        Key::new("action", ACTION, "`placeholder`: a placeholder goes out and the answer has the value again. `mask`: `[EMAIL]` goes out, for good. `refuse`: the call is refused.")
            .says("placeholder"),
        Key::new("find", Kind::OneOrMany(&KIND), "The kinds that are looked for. `all` is every kind of the list but `name` and `pattern`, `ids` all national numbers.")
            .says("all")
            .eg("[email, phone, card, iban]"),
        Key::new("refuse", Kind::OneOrMany(&KIND), "Kinds for which a call is refused, whatever `action` says.").eg("[card]"),
        Key::new("names", Kind::OneOrMany(&NAME_SOURCE), "Where the caller's own names stand: `caller`, `header:…`, `claim:…` or `field:…`. They are looked for in every text.")
            .eg("[\"header:x-user-name\"]"),
        Key::new("patterns", Kind::Map { key: &NAME_OF_MAP, of: &PATTERN }, "Further kinds: a name to a regular expression.")
            .eg("{employee: \"E-[0-9]{6}\"}"),
        Key::new("allow", Kind::Table(&ALLOW), "What is not personal, although it looks like it."),
        Key::new("unreadable", UNREADABLE, "What happens to a request whose body cannot be read: no JSON, an unknown coding, too large, a form, a WebSocket.")
            .says("refuse"),
    ],
);
const ROW: Key = Key::new("privacy", Kind::Table(&TABLE), "Personal data that does not leave for a model.");

const ELSEWHERE: &[Elsewhere] = &[(
    &["pii", "dlp", "redact", "redaction", "anonymize", "anonymise", "mask", "presidio", "guardrails", "pii_masking"],
    "write `privacy: {}` in an outbound route or in `outbound.defaults`",
)];

impl Policy for Option<Privacy> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: None, outbound: Some(ROW), defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("privacy");
        let mut find = kinds_of(written.find);
        let names: Vec<NameSource> = written.names.into_iter().flatten().map(|source| source.0).collect();
        let patterns: Vec<PersonalPattern> =
            written.patterns.into_iter().filter_map(|(name, pattern)| Some(meant(&name, pattern?.0.0))).collect();
        for (kind, absent, key) in
            [(PersonalKind::Name, names.is_empty(), "names"), (PersonalKind::Pattern, patterns.is_empty(), "patterns")]
        {
            if find.contains(&kind) && absent && !build.seen.broken(&format!("{here}.{key}")) {
                let message = format!("`{}` finds nothing without `{key}`", kind.as_str());
                build.fault(build.seen.value(&format!("{here}.find")), message);
            }
        }
        for (at, pattern) in patterns.iter().enumerate() {
            if patterns[..at].iter().any(|other| other.label == pattern.label)
                || PersonalKind::ALL.iter().any(|kind| kind.label() == pattern.label)
            {
                let message = format!("the placeholders of {} would be those of another kind; choose another name", quoted(&pattern.name));
                build.fault(build.seen.key(&format!("{here}.patterns.{}", pattern.name)), message);
            }
        }
        if find.is_empty() {
            find = KindWord::All.kinds();
        }
        find.extend(
            [(!names.is_empty()).then_some(PersonalKind::Name), (!patterns.is_empty()).then_some(PersonalKind::Pattern)]
                .into_iter()
                .flatten(),
        );
        let refuse = kinds_of(written.refuse);
        // What is refused has to be found first.
        find.extend(&refuse);
        find.sort_unstable();
        find.dedup();
        let (values, fields) = written.allow.map(|allow| (allow.values, allow.fields)).unwrap_or_default();
        Some(Privacy {
            mode: written.mode.0.meant()?,
            action: written.action.map_or(PrivacyAction::Placeholder, |action| action.0),
            find,
            refuse,
            names,
            patterns,
            allow_values: values.into_iter().flatten().map(|value| value.0).collect(),
            allow_fields: fields.into_iter().flatten().map(|field| field.0).collect(),
            passes_unreadable: written.unreadable.is_some_and(|word| word.0 == OnUnreadable::Pass),
        })
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|privacy| format!("privacy by {}{}", privacy.action.as_str(), privacy.mode.remark())).collect()
    }
}

fn kinds_of(written: Items<W<KindWord>>) -> Vec<PersonalKind> {
    written.into_iter().flatten().flat_map(|word| word.0.kinds()).collect()
}

fn meant(name: &str, regex: Regex) -> PersonalPattern {
    let label = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    PersonalPattern { name: name.into(), label, regex }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{good, says};

    fn outbound(policy: &str) -> String {
        format!("outbound:\n  providers: {{openai: {{}}}}\n  defaults:\n    {policy}\n")
    }

    fn privacy(policy: &str) -> Privacy {
        good(&outbound(policy)).outbound.expect("open").fallthrough.privacy.expect("named")
    }

    #[test]
    fn one_word_finds_every_kind_and_sends_placeholders() {
        let policy = privacy("privacy: {}");
        assert_eq!((policy.mode, policy.action, policy.passes_unreadable), (Mode::Enforce, PrivacyAction::Placeholder, false));
        assert!(policy.wants(PersonalKind::Email) && policy.wants(PersonalKind::BrCpf) && !policy.wants(PersonalKind::Name));
        assert!(policy.changes() && policy.must_read());
        assert!(good(&outbound("privacy: {mode: off}")).outbound.expect("open").fallthrough.privacy.is_none());
    }

    #[test]
    fn kinds_names_and_patterns_are_chosen() {
        let policy = privacy(
            "privacy: {action: mask, find: [email, ids], refuse: card, names: [caller, \"header:X-Name\", \"field:metadata.user\"], \
             patterns: {employee-id: \"E-[0-9]{6}\"}, unreadable: pass, allow: {values: \"*@example.com\", fields: metadata.trace}}",
        );
        assert!(policy.wants(PersonalKind::Card) && policy.wants(PersonalKind::Pattern) && !policy.wants(PersonalKind::Phone));
        assert_eq!(policy.does(PersonalKind::Card), PrivacyAction::Refuse);
        assert_eq!(policy.does(PersonalKind::Email), PrivacyAction::Mask);
        assert_eq!((policy.patterns[0].label.as_str(), policy.names.len()), ("EMPLOYEE_ID", 3));
        assert_eq!(policy.names[1], NameSource::Header("x-name".into()));
        assert!(policy.passes_unreadable && policy.allow_fields.len() == 1);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        says(&outbound("privacy: {find: emial}"), "4:21", "did you mean `email`?");
        says(&outbound("privacy: {find: name}"), "4:21", "finds nothing without `names`");
        says(&outbound("privacy: {names: x-name}"), "4:22", "header:x-user-name");
        says(&outbound("privacy: {patterns: {a: \"(\"}}"), "4:29", "no regular expression");
        says(&outbound("privacy: {patterns: {a: \"x*\"}}"), "4:29", "matches an empty text");
        says(&outbound("privacy: {patterns: {email: \"x\"}}"), "4:26", "choose another name");
        says(&outbound("pii: {}"), "4:5", "write `privacy: {}`");
        says("inbound: {app: 3000, defaults: {privacy: {}}}\n", "1:33", "");
    }
}
