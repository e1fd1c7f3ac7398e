//! `validate`: what a request may look like. Schemas and documents are compiled here, when the file is read.

mod openapi;
mod schema;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use http::Method;
use serde::Deserialize;
use serde_json::Value;

pub use openapi::{BodyTerms, Documented, Found, OpenApi, Parameter, ParameterPlace, Undocumented};
pub use schema::{Schema, SchemaFault};

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config, Glob,
    block::route::METHOD,
    build::{Build, small},
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{Bytes, Count, W, words},
    schema::{
        Elsewhere, Json, Key, Kind, Scalar, Table,
        kinds::{BOOL, COUNT_OF, GLOB, SIZE_OF},
    },
    written::Items,
};

/// What a request may look like.
#[derive(Debug, Clone)]
pub struct Validate {
    /// Whether it acts.
    pub mode: Mode,
    /// Methods that may be used; empty: all.
    pub methods: Vec<Method>,
    /// Media types that a body may have; empty: all.
    pub content_types: Vec<Glob>,
    /// Most bytes of a body. `None`: the door's own bound.
    pub max_body: Option<u64>,
    /// Deepest nesting of a JSON body.
    pub max_depth: u32,
    /// Whether a name may stand twice in an object.
    pub duplicate_keys: bool,
    /// The schema of the body.
    pub schema: Option<Arc<Schema>>,
    /// The schema of the query, read as an object.
    pub query: Option<Arc<Schema>>,
    /// The document that describes the app.
    pub openapi: Option<Arc<OpenApi>>,
    /// What happens to a path or method that the document does not have.
    pub undocumented: Undocumented,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    #[serde(default)]
    methods: Items<W<Method>>,
    #[serde(default)]
    content_types: Items<W<Glob>>,
    max_body: Option<W<Bytes>>,
    max_depth: W<Count>,
    duplicate_keys: W<bool>,
    schema: Option<W<PathBuf>>,
    query: Option<W<PathBuf>>,
    openapi: Option<W<PathBuf>>,
    undocumented: Option<W<Undocumented>>,
    formats: W<bool>,
}

words! {
    Undocumented: "refuse" => Self::Refuse, "pass" => Self::Pass;
}

/// Largest file of a schema or document.
const MAX_FILE: u64 = 16 << 20;

const FILE: Kind = Kind::Scalar(&Scalar::new::<PathBuf>("a file", Json::Text, "schema.json"));
const UNDOCUMENTED: Kind = Kind::Scalar(&Scalar::new::<Undocumented>("`refuse` or `pass`", Json::Words(&["refuse", "pass"]), "pass"));

static TABLE: Table = Table::new(
    "validate",
    "What a request may look like. All that is wrong is told at once, each with its place. A body that is JSON is read before it is sent, \
     within `body_budget`, and goes on byte for byte; in a content coding it is decoded aside.",
    &[
        MODE_KEY,
        Key::new("methods", Kind::OneOrMany(&METHOD), "Methods that may be used; others get 405.").eg("[GET, POST]"),
        Key::new("content_types", Kind::OneOrMany(&GLOB), "Media types that a body may have; others get 415.").eg("[application/json]"),
        Key::new("max_body", SIZE_OF, "Largest body; more gets 413.")
            .within("1B", "32MiB")
            .says("the door's `bounds.max_body`")
            .eg("64KiB"),
        Key::new("max_depth", COUNT_OF, "Deepest nesting of a JSON body.").within("1", "127").default("64"),
        Key::new("duplicate_keys", BOOL, "Whether a name may stand twice in one object: one reader takes the first, another the last.")
            .default("false"),
        Key::new("schema", FILE, "JSON Schema of the body (drafts 4, 6, 7, 2019-09, 2020-12), as JSON or YAML.").eg("order.schema.json"),
        Key::new("query", FILE, "JSON Schema of the query, as an object: numbers are read where the schema asks for one.")
            .eg("search.schema.json"),
        Key::new("openapi", FILE, "OpenAPI document (3.0 or 3.1): its paths, methods, parameters and request bodies.").eg("openapi.yaml"),
        Key::new("undocumented", UNDOCUMENTED, "What happens to a path or method that the document does not have.").says("refuse"),
        Key::new("formats", BOOL, "Whether `format` is checked, or only says something, as is the standard's default.").default("false"),
    ],
)
.needs(&[("undocumented", "openapi")]);
const ROW: Key = Key::new("validate", Kind::Table(&TABLE), "What a request may look like.");

const ELSEWHERE: &[Elsewhere] = &[(
    &["openapi", "oas_validation", "request_validator", "request_validation", "json_schema", "schema_validation", "oas"],
    "write `validate: {openapi: openapi.yaml}` or `validate: {schema: order.schema.json}` in a route or in the door's `defaults`",
)];

impl Policy for Option<Validate> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(ROW), outbound: Some(ROW), defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("validate");
        let formats = written.formats.0;
        let mut schema = |key: &str, file: Option<W<PathBuf>>| {
            let at = format!("{here}.{key}");
            let (shown, value) = read(build, &at, &file?.0)?;
            let compiled = Schema::compile(&value, formats).map_err(|why| format!("`{shown}`: {why}"));
            compiled.map_err(|why| build.fault(build.seen.value(&at), why)).ok().map(Arc::new)
        };
        let (body, query) = (schema("schema", written.schema), schema("query", written.query));
        let openapi = written.openapi.and_then(|file| {
            let at = format!("{here}.openapi");
            let (shown, value) = read(build, &at, &file.0)?;
            match OpenApi::compile(value, formats) {
                Ok((document, notes)) => {
                    notes.into_iter().for_each(|note| build.note(build.seen.value(&at), format!("`{shown}`: {note}")));
                    Some(Arc::new(document))
                }
                Err(wrong) => {
                    wrong.into_iter().for_each(|why| build.fault(build.seen.value(&at), format!("`{shown}`: {why}")));
                    None
                }
            }
        });
        Some(Validate {
            mode: written.mode.0.meant()?,
            methods: written.methods.into_iter().flatten().map(|method| method.0).collect(),
            content_types: written.content_types.into_iter().flatten().map(|glob| glob.0).collect(),
            max_body: written.max_body.map(|size| size.0.0),
            max_depth: small(&written.max_depth),
            duplicate_keys: written.duplicate_keys.0,
            schema: body,
            query,
            openapi,
            undocumented: written.undocumented.map_or(Undocumented::Refuse, |word| word.0),
        })
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|validate| format!("validate{}", validate.mode.remark())).collect()
    }
}

/// A file as a value, with its path as shown. JSON and YAML are both read.
fn read(build: &mut Build<'_>, at: &str, file: &std::path::Path) -> Option<(String, Value)> {
    let shown = build.files.path(file).display().to_string();
    let read = build.files.read(file, MAX_FILE).and_then(|bytes| {
        if bytes.trim_ascii_start().first() == Some(&b'{') {
            return serde_json::from_slice(&bytes).map_err(|error| format!("`{shown}` is not JSON: {error}"));
        }
        serde_yaml::from_slice(&bytes).map_err(|error| format!("`{shown}` is neither JSON nor YAML: {error}"))
    });
    read.map_err(|why| build.fault(build.seen.value(at), why)).ok().map(|value| (shown, value))
}
