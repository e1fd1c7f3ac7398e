//! The shape of `proxy.yaml` as written: tables of keys. The walk that checks a file, the defaults, the Markdown reference and the JSON
//! Schema for editors come from the tables; each table stands with its block or policy.

mod elsewhere;
pub(super) mod kinds;
mod print;
#[cfg(test)]
mod tests;

use super::scalars::Word;

pub(super) use elsewhere::instead_of;
pub use print::{json_schema, reference};
pub(super) use print::{knows, tables};

/// The file itself.
pub(super) use super::block::file::TABLE as ROOT;

/// A block of keys.
pub(super) struct Table {
    /// Title in the reference, unique.
    pub(super) name: &'static str,
    /// The purpose of the block, in a sentence or two.
    pub(super) doc: &'static str,
    pub(super) keys: &'static [Key],
    /// Groups of keys of which exactly one must be written.
    pub(super) exactly_one: &'static [&'static [&'static str]],
    /// Groups of keys of which one or more must be written.
    pub(super) at_least_one: &'static [&'static [&'static str]],
    /// Pairs of keys: the first has no meaning without the second.
    pub(super) needs: &'static [(&'static str, &'static str)],
    /// Keys that people expect here, each with the advice that stands for "unknown key".
    pub(super) foreign: &'static [Advice],
}

/// One key of a block.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Default,
    /// The purpose of the key, in a sentence.
    pub(super) doc: &'static str,
    /// YAML that a reader could paste.
    pub(super) example: &'static str,
    /// Smallest and largest value, as written.
    pub(super) range: Option<(&'static str, &'static str)>,
}

/// The meaning of an absent key.
#[derive(Clone, Copy)]
pub(super) enum Default {
    /// Nothing: the feature is not there.
    Absent,
    /// The key must be written.
    Required,
    /// As if this YAML had been written.
    Value(&'static str),
    /// The build works it out; the text says how.
    Says(&'static str),
}

/// The values that a place takes.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Scalar(&'static Scalar),
    List(&'static Kind),
    /// A list, or its only item.
    OneOrMany(&'static Kind),
    Table(&'static Table),
    /// Names to values.
    Map {
        /// The kind of a name.
        key: &'static Scalar,
        of: &'static Kind,
    },
    /// The first that fits by shape.
    Either(&'static [Kind]),
}

/// A kind of word.
pub(super) struct Scalar {
    /// With its article: "a duration".
    pub(super) name: &'static str,
    /// Reads and measures.
    pub(super) check: fn(&str) -> Result<Option<u128>, String>,
    pub(super) json: Json,
    /// Never shown.
    pub(super) secret: bool,
    /// No value of the kind has a dollar sign: `$NAME` in one is a slip.
    pub(super) no_dollar: bool,
    /// Names of `${name}` that each request fills: they are no variables of the environment.
    pub(super) filled: &'static [&'static str],
    pub(super) example: &'static str,
}

/// The form of a word, for editors.
pub(super) enum Json {
    Text,
    Number,
    /// A number, or a text of this form.
    NumberOr(&'static str),
    Bool,
    Pattern(&'static str),
    Words(&'static [&'static str]),
}

/// A key that people expect in a block, and what to write instead.
pub(super) type Advice = (&'static str, &'static str);

/// Words of other products, and what to write instead of any of them.
pub(super) type Elsewhere = (&'static [&'static str], &'static str);

impl Table {
    pub(super) const fn new(name: &'static str, doc: &'static str, keys: &'static [Key]) -> Self {
        Self { name, doc, keys, exactly_one: &[], at_least_one: &[], needs: &[], foreign: &[] }
    }

    pub(super) const fn exactly_one(mut self, groups: &'static [&'static [&'static str]]) -> Self {
        self.exactly_one = groups;
        self
    }

    pub(super) const fn at_least_one(mut self, groups: &'static [&'static [&'static str]]) -> Self {
        self.at_least_one = groups;
        self
    }

    pub(super) const fn needs(mut self, pairs: &'static [(&'static str, &'static str)]) -> Self {
        self.needs = pairs;
        self
    }

    pub(super) const fn foreign(mut self, pairs: &'static [Advice]) -> Self {
        self.foreign = pairs;
        self
    }

    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Key {
    /// Fills an array before its rows are known.
    pub(super) const NONE: Self = Self::new("", Kind::Either(&[]), "");

    pub(super) const fn new(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, default: Default::Absent, doc, example: "", range: None }
    }

    pub(super) const fn default(mut self, yaml: &'static str) -> Self {
        self.default = Default::Value(yaml);
        self
    }

    pub(super) const fn says(mut self, text: &'static str) -> Self {
        self.default = Default::Says(text);
        self
    }

    pub(super) const fn required(mut self) -> Self {
        self.default = Default::Required;
        self
    }

    pub(super) const fn eg(mut self, yaml: &'static str) -> Self {
        self.example = yaml;
        self
    }

    pub(super) const fn within(mut self, least: &'static str, most: &'static str) -> Self {
        self.range = Some((least, most));
        self
    }
}

impl Kind {
    /// The kind in words.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Scalar(scalar) => scalar.name.to_owned(),
            Self::List(of) => format!("a list ({} each)", of.name()),
            Self::OneOrMany(of) => format!("{} or a list", of.name()),
            Self::Table(_) => "a block of keys".to_owned(),
            Self::Map { .. } => "a block of names".to_owned(),
            Self::Either(kinds) => kinds.iter().map(Self::name).collect::<Vec<_>>().join(" or "),
        }
    }

    /// A value that could be written.
    pub(super) fn example(&self) -> String {
        match self {
            Self::Scalar(scalar) => scalar.example.to_owned(),
            Self::List(of) => format!("[{}]", of.example()),
            Self::OneOrMany(of) => of.example(),
            Self::Table(table) => {
                let required = table.keys.iter().filter(|key| matches!(key.default, Default::Required));
                let one = table.exactly_one.iter().chain(table.at_least_one).filter_map(|group| table.key(group.first()?));
                let needed = one.clone().flat_map(|key| table.needs.iter().filter(|(first, _)| *first == key.name));
                let needed = needed.filter_map(|(_, second)| table.key(second));
                let inner: Vec<String> = required.chain(one).chain(needed).map(|key| format!("{}: {}", key.name, key.example())).collect();
                format!("{{{}}}", inner.join(", "))
            }
            Self::Map { key, of } => format!("{{{}: {}}}", key.example, of.example()),
            Self::Either(kinds) => kinds.first().map_or_else(String::new, Self::example),
        }
    }
}

impl Key {
    /// A value that could be written for this key.
    pub(super) fn example(&self) -> String {
        match self.default {
            _ if !self.example.is_empty() => self.example.to_owned(),
            Default::Value(yaml) if yaml != "{}" => yaml.to_owned(),
            _ => self.kind.example(),
        }
    }
}

impl Scalar {
    pub(super) const fn new<T: Word>(name: &'static str, json: Json, example: &'static str) -> Self {
        Self { name, check: check::<T>, json, secret: false, no_dollar: false, filled: &[], example }
    }

    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self.no_dollar = true;
        self
    }

    pub(super) const fn filled(mut self, names: &'static [&'static str]) -> Self {
        self.filled = names;
        self
    }

    pub(super) const fn no_dollar(mut self) -> Self {
        self.no_dollar = true;
        self
    }
}

/// Two lists in one.
pub(super) const fn join<T: Copy, const N: usize>(first: &[T], second: &[T]) -> [T; N] {
    assert!(first.len() + second.len() == N);
    let mut out = [first[0]; N];
    let mut at = 0;
    while at < N {
        out[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
        at += 1;
    }
    out
}

fn check<T: Word>(text: &str) -> Result<Option<u128>, String> {
    T::word(text).map(|value| value.measure())
}
