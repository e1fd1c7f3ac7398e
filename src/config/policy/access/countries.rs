//! `access.countries`: countries of addresses, by a file of the MaxMind DB format that the user brings.

use std::{fmt, net::IpAddr, path::PathBuf, sync::Arc};

use maxminddb::{PathElement, Reader};
use serde::Deserialize;

use crate::config::{
    build::Build,
    scalars::{W, Word},
    schema::{Json, Key, Kind, Scalar, Table},
    written::Items,
};

/// Countries that may come in, and those that may not.
#[derive(Debug, Clone)]
pub struct Countries {
    /// The file.
    pub file: CountryFile,
    /// Only these.
    pub allow: Vec<Country>,
    /// Never these.
    pub deny: Vec<Country>,
}

/// A country: two letters (ISO 3166-1 alpha-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Country([u8; 2]);

/// A file that knows the countries of addresses.
#[derive(Clone)]
pub struct CountryFile(Arc<Reader<Vec<u8>>>);

impl CountryFile {
    /// The country of an address; `None`: the file does not know it.
    pub fn country(&self, address: IpAddr) -> Option<Country> {
        let found = self.0.lookup(address.to_canonical()).ok()?;
        let word = |of: &'static str| found.decode_path::<&str>(&[PathElement::Key(of), PathElement::Key("iso_code")]).ok().flatten();
        // An address that moves has the country where it is registered.
        Country::word(word("country").or_else(|| word("registered_country"))?).ok()
    }
}

impl fmt::Debug for CountryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.metadata().database_type)
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or("??"))
    }
}

impl Word for Country {
    fn word(text: &str) -> Result<Self, String> {
        match *text.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([a, b])),
            _ => Err("is not a country; write two upper-case letters (ISO 3166), such as DE".to_owned()),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    file: Option<W<PathBuf>>,
    #[serde(default)]
    allow: Items<W<Country>>,
    #[serde(default)]
    deny: Items<W<Country>>,
}

/// Largest file.
const MAX_FILE: u64 = 512 << 20;

const FILE: Kind = Kind::Scalar(&Scalar::new::<PathBuf>("a file", Json::Text, "GeoLite2-Country.mmdb"));
const COUNTRY: Kind = Kind::Scalar(&Scalar::new::<Country>("a country", Json::Pattern("^[A-Z]{2}$"), "DE"));

pub(super) static TABLE: Table = Table::new(
    "access.countries",
    "Who may come in, by country. The file is yours: MaxMind's, DB-IP's or any other of the MaxMind DB format (MMDB). It is held in memory, and \
     a new one is taken over like a change of the configuration.",
    &[
        Key::new("file", FILE, "The MMDB file.").required().eg("GeoLite2-Country.mmdb"),
        Key::new("allow", Kind::OneOrMany(&COUNTRY), "Only these countries, and the addresses of `access.allow`.").eg("[DE, FR]"),
        Key::new("deny", Kind::OneOrMany(&COUNTRY), "Never these countries. An address without a country passes.").eg("[XX]"),
    ],
)
.at_least_one(&[&["allow", "deny"]]);

pub(super) fn build(build: &mut Build<'_>, here: &str, written: Written) -> Option<Countries> {
    let at = format!("{here}.file");
    let path = written.file?.0;
    let shown = build.files.path(&path).display().to_string();
    let read = build.files.read(&path, MAX_FILE);
    let opened = read.and_then(|bytes| Reader::from_source(bytes).map_err(|error| format!("`{shown}` is no MMDB file: {error}")));
    let reader = opened.map_err(|why| build.fault(build.seen.value(&at), why)).ok()?;
    let words = |items: Items<W<Country>>| items.into_iter().flatten().map(|word| word.0).collect();
    Some(Countries { file: CountryFile(Arc::new(reader)), allow: words(written.allow), deny: words(written.deny) })
}
