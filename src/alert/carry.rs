//! What of alerts outlives a process: the incidents that are open with what was told of them, and what is still to be told.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::engine::Incident;
use crate::config::Measure;

/// An incident that is open, and whether somebody was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIncident {
    /// The incident.
    pub incident: Incident,
    /// Wall time of its last notice, in milliseconds since 1970; `None`: nobody was told yet.
    pub at: Option<u64>,
    /// Whether another replica tells of it.
    pub elsewhere: bool,
}

/// What a process hands to the one after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Carry {
    /// The incidents that are open.
    pub open: Vec<OpenIncident>,
    /// Incidents that are over, whose end is still to be told.
    pub over: Vec<Incident>,
    /// Low incidents that are over, for the next digest.
    pub low: Vec<Incident>,
    /// Further ones, which are only counted.
    pub low_more: usize,
}

impl Carry {
    /// Adds what another process has left. Of the same incident the one that was told is kept.
    pub fn add(&mut self, other: Self) {
        for one in other.open {
            match self.open.iter_mut().find(|mine| mine.incident.id == one.incident.id) {
                Some(mine) if mine.at < one.at => *mine = one,
                Some(_) => {}
                None => self.open.push(one),
            }
        }
        self.over.extend(other.over);
        self.low.extend(other.low);
        self.low_more += other.low_more;
    }

    /// Whether it names the incident with this id.
    pub fn names(&self, id: &str) -> bool {
        self.open.iter().map(|one| &one.incident).chain(&self.over).any(|incident| incident.id == id)
    }
}

/// A measure as its word.
pub(super) mod measure {
    use super::{Deserialize, Deserializer, Measure, Serializer};

    pub fn serialize<S: Serializer>(measure: &Measure, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(measure.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Measure, D::Error> {
        let word = String::deserialize(from)?;
        let known = Measure::ALL.iter().find(|measure| measure.as_str() == word);
        known.copied().ok_or_else(|| serde::de::Error::custom(format!("{word} is no measure")))
    }
}
