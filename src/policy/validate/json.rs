//! A JSON text as a value, with the names that stand twice and no deeper than allowed.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    fmt,
};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Most places of doubled names that are told.
const MOST: usize = 50;

const TOO_DEEP: &str = "nested too deep";

/// Reads a text. Gives the value, in which the last of two equal names counts, and the places of doubled names as JSON Pointers; none if
/// `duplicates` are allowed.
///
/// # Errors
/// The text is no JSON (RFC 8259), or is nested deeper than `depth`. The words show nothing of the text.
pub(super) fn read(text: &[u8], depth: usize, duplicates: bool) -> Result<(Value, Vec<String>), String> {
    let reading = Reading { path: RefCell::default(), doubled: RefCell::default(), level: Cell::default(), depth, duplicates };
    let mut source = serde_json::Deserializer::from_slice(text);
    let value = Part(&reading).deserialize(&mut source).and_then(|value| source.end().map(|()| value));
    match value {
        Ok(value) => Ok((value, reading.doubled.into_inner())),
        // The reader has a bound of its own, one level beyond the largest that can be asked for.
        Err(error) if [TOO_DEEP, "recursion limit"].iter().any(|words| error.to_string().contains(words)) => {
            Err(format!("the body is nested deeper than {depth} (validate.max_depth)"))
        }
        Err(error) => Err(format!("the body is not JSON: it breaks off or goes wrong at line {}, column {}", error.line(), error.column())),
    }
}

struct Reading {
    /// Where the reader is, as a JSON Pointer.
    path: RefCell<String>,
    doubled: RefCell<Vec<String>>,
    /// Objects and lists around the reader.
    level: Cell<usize>,
    depth: usize,
    duplicates: bool,
}

impl Reading {
    /// Reads what stands below `token`.
    fn below<T>(&self, token: &str, read: impl FnOnce() -> T) -> T {
        let before = {
            let mut path = self.path.borrow_mut();
            let before = path.len();
            path.push('/');
            path.push_str(&token.replace('~', "~0").replace('/', "~1"));
            before
        };
        let read = read();
        self.path.borrow_mut().truncate(before);
        read
    }

    fn doubled(&self, name: &str) {
        let mut doubled = self.doubled.borrow_mut();
        if doubled.len() < MOST {
            self.below(name, || doubled.push(self.path.borrow().clone()));
        }
    }
}

/// A value below the place where the reader is.
struct Part<'r>(&'r Reading);

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl Part<'_> {
    /// Goes into an object or a list. Whoever comes out of it calls [`Part::leaves`].
    fn enters<E: serde::de::Error>(&self) -> Result<(), E> {
        let level = self.0.level.get() + 1;
        self.0.level.set(level);
        if level > self.0.depth { Err(E::custom(TOO_DEEP)) } else { Ok(()) }
    }

    fn leaves(&self) {
        self.0.level.set(self.0.level.get() - 1);
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, on: bool) -> Result<Value, E> {
        Ok(Value::Bool(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("no number"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.enters()?;
        let mut out = Vec::new();
        loop {
            let at = out.len().to_string();
            match self.0.below(&at, || items.next_element_seed(Part(self.0)))? {
                Some(item) => out.push(item),
                None => break,
            }
        }
        self.leaves();
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.enters()?;
        let (mut out, mut told) = (Map::new(), HashSet::new());
        while let Some(name) = members.next_key::<String>()? {
            let value = self.0.below(&name, || members.next_value_seed(Part(self.0)))?;
            if !self.0.duplicates && out.contains_key(&name) && told.insert(name.clone()) {
                self.0.doubled(&name);
            }
            out.insert(name, value);
        }
        self.leaves();
        Ok(Value::Object(out))
    }
}
