//! What the courier keeps: the notices that wait, the incidents that are open, and which channels were told of them. One file, written
//! whole, so a restart finds all of it at the same moment.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::queue::Queue;
use crate::{
    alert::{Carry, Item, Kind, Notice},
    config::Channel,
};

/// The form of the file.
const FORMAT: u32 = 1;

/// All that outlives the process.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Pouch {
    #[serde(default)]
    format: Form,
    /// Notices that wait.
    #[serde(flatten)]
    pub(super) queue: Queue,
    /// Incidents that are open.
    #[serde(default)]
    pub(super) carry: Carry,
    /// The channels that were told of an incident, by its id.
    #[serde(default)]
    told: BTreeMap<String, BTreeSet<String>>,
}

/// The form of the file; another one is not read.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct Form;

impl Default for Form {
    fn default() -> Self {
        Self
    }
}

impl TryFrom<u32> for Form {
    type Error = String;

    fn try_from(format: u32) -> Result<Self, String> {
        if format == FORMAT { Ok(Self) } else { Err(format!("it has format {format}, and this version reads format {FORMAT}")) }
    }
}

impl From<Form> for u32 {
    fn from(_: Form) -> Self {
        FORMAT
    }
}

impl Pouch {
    /// Takes in what a process that is gone has left.
    pub(super) fn add(&mut self, earlier: Self) {
        self.queue.put_before(earlier.queue);
        self.carry.add(earlier.carry);
        for (id, channels) in earlier.told {
            self.told.entry(id).or_default().extend(channels);
        }
    }

    /// Other incidents are open from now on.
    pub(super) fn set_carry(&mut self, carry: Carry) {
        self.told.retain(|id, _| carry.names(id));
        self.carry = carry;
    }

    /// Puts a notice in line for each channel that wants it. Gives the channels for which old ones had to go, with their number.
    pub(super) fn post<'a>(&mut self, notice: &Notice, channels: &'a [Channel], now: u64) -> Vec<(&'a Channel, usize)> {
        let mut displaced = Vec::new();
        for channel in channels {
            let Some(part) = self.part_for(notice, channel) else { continue };
            if matches!(notice.kind, Kind::Firing | Kind::Reminder) {
                for item in &part.items {
                    self.told.entry(item.id.clone()).or_default().insert(channel.name.to_string());
                }
            }
            let dropped = self.queue.push(part, &channel.name, now);
            if dropped > 0 {
                displaced.push((channel, dropped));
            }
        }
        if notice.kind == Kind::Resolved {
            notice.items.iter().for_each(|item| drop(self.told.remove(&item.id)));
        }
        displaced
    }

    /// What a channel gets of a notice: the incidents that matter enough for it. The end of an incident goes also to those who were told of
    /// it, whatever the channel wants now. Another replica, or a channel's earlier name, may have told more than is known here: the end
    /// of an incident that a receiver does not know does no harm.
    fn part_for(&self, notice: &Notice, channel: &Channel) -> Option<Notice> {
        let was_told = |item: &Item| self.told.get(&item.id).is_some_and(|told| told.contains(&*channel.name));
        let wants = |item: &&Item| item.severity >= channel.severity || (notice.kind == Kind::Resolved && was_told(item));
        let items: Vec<Item> = notice.items.iter().filter(wants).cloned().collect();
        let severity = items.iter().map(|item| item.severity).max()?;
        Some(Notice { severity, items, ..notice.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Means, Secret, Severity},
        notify::format::tests::notice,
    };

    fn channel(name: &str, severity: Severity) -> Channel {
        Channel { name: name.into(), means: Means::Slack(Secret::new("http://h/x")), severity }
    }

    /// What waits: channel and ids of incidents.
    fn waiting(pouch: &mut Pouch) -> Vec<(String, Vec<String>)> {
        let due = pouch.queue.due(0).into_iter();
        due.map(|parcel| {
            let ids = parcel.notice.items.iter().map(|item| item.id.clone()).collect();
            pouch.queue.done(&parcel.notice.id, &parcel.channel, &crate::notify::Outcome::Delivered, 0, 0.0);
            (parcel.channel, ids)
        })
        .collect()
    }

    #[test]
    fn a_channel_hears_of_what_matters_to_it_and_the_end_of_what_it_heard_of() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let all = [channel("all", Severity::Low), channel("pager", Severity::Critical)];
        let mut pouch = Pouch::default();
        // The first incident is critical, the second a warning.
        pouch.post(&notice(Kind::Firing, 2), &all, 0);
        assert_eq!(waiting(&mut pouch), [("all".into(), ids(&["id0", "id1"])), ("pager".into(), ids(&["id0"]))]);
        let text = serde_json::to_string(&pouch).expect("writes");
        let mut pouch: Pouch = serde_json::from_str(&text).expect("reads");
        // The channel is for less from now on, and another one is new, or has a new name: who was told hears of the end, and so does
        // who may have been told by another replica.
        let fewer = [channel("all", Severity::Critical), channel("pager", Severity::Low), channel("new", Severity::Low)];
        pouch.post(&notice(Kind::Resolved, 2), &fewer, 0);
        let both = || ids(&["id0", "id1"]);
        assert_eq!(waiting(&mut pouch), [("all".into(), both()), ("pager".into(), both()), ("new".into(), both())]);
        // What another replica has told: severity decides.
        pouch.post(&notice(Kind::Resolved, 2), &fewer, 0);
        assert_eq!(waiting(&mut pouch).len(), 3);
    }

    #[test]
    fn a_file_of_before_is_read_and_one_of_another_form_is_not() {
        let before: Pouch = serde_json::from_str(r#"{"parcels": []}"#).expect("reads");
        assert!(before.queue.is_empty() && before.carry == Carry::default());
        let why = serde_json::from_str::<Pouch>(r#"{"format": 2, "parcels": []}"#).expect_err("of another version").to_string();
        assert!(why.contains("format 2"), "{why}");
    }
}
