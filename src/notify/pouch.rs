//! What the courier keeps: the notices that wait, the incidents that are open, and which channels were told of them. One file, written
//! whole, so a restart finds all of it at the same moment.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::queue::Queue;
use crate::{
    alert::{Carry, Item, Kind, Notice},
    config::{Channel, Severity},
};

/// Most incidents of a notice to a channel that is gone: one that is sent again does not begin from far away.
const PART: usize = 20;

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
    /// The service that the notices speak of.
    #[serde(default)]
    service: String,
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
        if self.service.is_empty() {
            self.service = earlier.service;
        }
        for (id, channels) in earlier.told {
            self.told.entry(id).or_default().extend(channels);
        }
    }

    /// Other incidents are open from now on.
    pub(super) fn set_carry(&mut self, carry: Carry) {
        self.told.retain(|id, _| carry.names(id));
        self.carry = carry;
    }

    /// Puts a notice in line for each channel that wants it. Gives the channel of each old one that had to go.
    pub(super) fn post(&mut self, notice: &Notice, channels: &[Channel], now: u64) -> Vec<String> {
        let mut displaced = Vec::new();
        self.service.clone_from(&notice.service);
        for channel in channels {
            let Some(part) = self.part_for(notice, channel) else { continue };
            if matches!(notice.kind, Kind::Firing | Kind::Reminder) {
                for item in &part.items {
                    self.told.entry(item.id.clone()).or_default().insert(channel.name.to_string());
                }
            }
            displaced.extend(self.queue.push(part, &channel.name, now));
        }
        if notice.kind == Kind::Resolved {
            notice.items.iter().for_each(|item| drop(self.told.remove(&item.id)));
        }
        displaced
    }

    /// A channel is gone, or has another address. It hears that the incidents of which it was told are no longer watched for it: they
    /// would stay open there for ever. Gives how many notices were given up, and how many incidents it hears of. `goes_by`: the name by
    /// which the old one is found from now on; what waits for a channel that keeps its name goes to the new address.
    pub(super) fn leave(&mut self, channel: &str, goes_by: &str, now: u64) -> (usize, usize) {
        let given_up = if goes_by == channel { self.queue.keep(|name| name != channel) } else { 0 };
        let told = &mut self.told;
        let known = self.carry.open.iter().map(|one| &one.incident).chain(&self.carry.over);
        let knew = known.filter(|incident| told.get_mut(&incident.id).is_some_and(|channels| channels.remove(channel)));
        let items: Vec<Item> = knew
            .map(|incident| Item {
                until: incident.until.or(Some(now.max(incident.since))),
                says: format!("no longer watched for this receiver, which is gone from the configuration (it was: {})", incident.says),
                ..Item::of(incident, None)
            })
            .collect();
        let place = channel.replace(|one: char| !one.is_ascii_alphanumeric(), "-");
        for (nth, part) in items.chunks(PART).enumerate() {
            let notice = Notice {
                id: format!("left-{place}-{now}-{nth}"),
                kind: Kind::Resolved,
                severity: part.iter().map(|item| item.severity).max().unwrap_or(Severity::Low),
                at: now,
                service: self.service.clone(),
                items: part.to_vec(),
                more: 0,
            };
            self.queue.push(notice, goes_by, now);
        }
        (given_up, items.len())
    }

    /// Forgets that channels were told which nobody knows. Gives their names.
    pub(super) fn forget(&mut self, knows: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let gone: BTreeSet<String> = self.told.values().flatten().filter(|name| !knows(name)).cloned().collect();
        self.told.values_mut().for_each(|channels| channels.retain(|name| !gone.contains(name)));
        gone
    }

    /// What a channel gets of a notice: the incidents that matter enough for it. The end of an incident goes also to those who were told of
    /// it, whatever the channel wants now. Another replica, or a channel's earlier name, may have told more than is known here: the end
    /// of an incident that a receiver does not know does no harm.
    pub(super) fn part_for(&self, notice: &Notice, channel: &Channel) -> Option<Notice> {
        let was_told = |item: &Item| self.told.get(&item.id).is_some_and(|told| told.contains(&*channel.name));
        let wants = |item: &&Item| item.severity >= channel.severity || (notice.kind == Kind::Resolved && was_told(item));
        let items: Vec<Item> = notice.items.iter().filter(wants).cloned().collect();
        let severity = items.iter().map(|item| item.severity).max()?;
        // The worst come first: where one of them is not wanted, none of those that are left out is.
        let more = if items.len() < notice.items.len() { 0 } else { notice.more };
        Some(Notice { severity, items, more, ..notice.clone() })
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
    fn a_channel_that_is_gone_hears_that_its_incidents_are_no_longer_watched() {
        let all = [channel("all", Severity::Low), channel("pager", Severity::Critical)];
        let mut pouch = Pouch::default();
        let firing = notice(Kind::Firing, 2);
        pouch.post(&firing, &all, 0);
        let incident = |at: usize| crate::alert::Incident {
            id: format!("id{at}"),
            rule: "breaker".into(),
            of: crate::config::Measure::Breaker,
            subject: "openai".into(),
            severity: firing.items[at].severity,
            since: 5,
            until: None,
            says: "open".into(),
        };
        let open = |at| crate::alert::OpenIncident { incident: incident(at), at: Some(1), elsewhere: false };
        // One is open; the end of the other waits for the morning; nobody was told of the third.
        pouch.set_carry(Carry {
            open: vec![
                open(1),
                crate::alert::OpenIncident { incident: crate::alert::Incident { id: "x".into(), ..incident(0) }, ..open(0) },
            ],
            over: vec![crate::alert::Incident { until: Some(7), ..incident(0) }],
            ..Carry::default()
        });
        assert_eq!(pouch.leave("all", "all", 9), (1, 2), "the beginning that waits is given up");
        let parcels = pouch.queue.due(9);
        assert_eq!(parcels.iter().map(|parcel| &*parcel.channel).collect::<Vec<_>>(), ["pager", "all"]);
        let last = &parcels[1].notice;
        let items: Vec<(&str, Option<u64>)> = last.items.iter().map(|item| (&*item.id, item.until)).collect();
        assert_eq!((last.kind, &*last.service, &items[..]), (Kind::Resolved, "shop", &[("id1", Some(9)), ("id0", Some(7))][..]));
        assert!(last.items[0].says.contains("no longer watched"));
        assert_eq!(pouch.leave("all", "all", 10), (0, 0), "once");
        assert_eq!(pouch.forget(|name| name != "pager").into_iter().collect::<Vec<_>>(), ["pager"]);
        assert!(pouch.forget(|_| false).is_empty());
    }

    #[test]
    fn the_incidents_that_are_left_out_are_those_of_a_channel() {
        let mut pouch = Pouch::default();
        pouch.post(&notice(Kind::Reminder, 2), &[channel("all", Severity::Low), channel("pager", Severity::Critical)], 0);
        let more = |parcel: &super::super::queue::Parcel| (parcel.channel.clone(), parcel.notice.items.len(), parcel.notice.more);
        let parcels: Vec<_> = pouch.queue.due(0).iter().map(more).collect();
        assert_eq!(parcels, [("all".into(), 2, 2), ("pager".into(), 1, 0)]);
    }

    #[test]
    fn a_file_of_before_is_read_and_one_of_another_form_is_not() {
        let before: Pouch = serde_json::from_str(r#"{"parcels": []}"#).expect("reads");
        assert!(before.queue.is_empty() && before.carry == Carry::default());
        let why = serde_json::from_str::<Pouch>(r#"{"format": 2, "parcels": []}"#).expect_err("of another version").to_string();
        assert!(why.contains("format 2"), "{why}");
    }
}
