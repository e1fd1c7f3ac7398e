//! What somebody is told: incidents that began, got worse, go on or are over, with who is hit and what to do.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{engine::Incident, runbook};
use crate::config::{Severity, human};

/// Why somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Incidents began or got worse.
    Firing,
    /// Incidents go on.
    Reminder,
    /// Incidents are over.
    Resolved,
    /// The low incidents of a day.
    Digest,
    /// Somebody tries the channel.
    Test,
}

impl Kind {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Reminder => "reminder",
            Self::Resolved => "resolved",
            Self::Digest => "digest",
            Self::Test => "test",
        }
    }
}

/// A notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Unique; the same at every try to deliver it.
    pub id: String,
    /// Why.
    pub kind: Kind,
    /// The worst of the incidents.
    pub severity: Severity,
    /// Wall time, in milliseconds since 1970.
    pub at: u64,
    /// `telemetry.service`.
    pub service: String,
    /// The incidents.
    pub items: Vec<Item>,
    /// Incidents that are left out, because there are too many.
    #[serde(default)]
    pub more: usize,
}

/// One incident of a notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The incident's id: the same for all its notices.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// Whose value.
    pub subject: String,
    /// How much it matters.
    pub severity: Severity,
    /// In a sentence.
    pub says: String,
    /// When it began, in milliseconds since 1970.
    pub since: u64,
    /// When it ended.
    pub until: Option<u64>,
    /// Who is hit.
    #[serde(default)]
    pub hit: Hit,
    /// What to do, in a paragraph.
    #[serde(default)]
    pub advice: String,
    /// Where more is said; `None`: nowhere.
    #[serde(default)]
    pub runbook: Option<String>,
}

/// Who is hit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// Callers with the number of their failures, the most first.
    pub callers: Vec<(Arc<str>, u64)>,
    /// How many callers there are.
    pub caller_count: usize,
    /// Routes with the number of their failures, the most first.
    pub routes: Vec<(Arc<str>, u64)>,
    /// Nano-dollars of model calls of the last hour that this is about.
    pub nano_usd: Option<u64>,
}

impl Hit {
    /// In words; `None`: nobody is known to be hit.
    pub fn says(&self) -> Option<String> {
        let list = |all: &[(Arc<str>, u64)]| all.iter().map(|(name, n)| format!("{name} ({n})")).collect::<Vec<_>>().join(", ");
        let mut parts = Vec::new();
        if !self.callers.is_empty() {
            let more = self.caller_count.saturating_sub(self.callers.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            parts.push(format!("callers {}{more}", list(&self.callers)));
        }
        if !self.routes.is_empty() {
            parts.push(format!("routes {}", list(&self.routes)));
        }
        parts.extend(self.nano_usd.map(|nano| format!("{} in the last hour", human::about_dollars(nano))));
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl Item {
    /// An incident, with its runbook behind `runbooks`, a URL. Nobody is known to be hit yet.
    pub fn of(incident: &Incident, runbooks: Option<&str>) -> Self {
        Self {
            id: incident.id.clone(),
            rule: incident.rule.to_string(),
            subject: incident.subject.to_string(),
            severity: incident.severity,
            says: incident.says.clone(),
            since: incident.since,
            until: incident.until,
            hit: Hit::default(),
            advice: runbook::advice(incident.of.as_str()).to_owned(),
            runbook: runbooks.map(|url| format!("{url}#{}", incident.of.as_str())),
        }
    }

    /// How long it has lasted at `now` (milliseconds since 1970), in words.
    pub fn lasted(&self, now: u64) -> String {
        human::wait(std::time::Duration::from_millis(self.until.unwrap_or(now).saturating_sub(self.since)))
    }
}

impl Notice {
    /// The first line: what a phone shows.
    pub fn title(&self) -> String {
        let what = match (self.kind, &self.items[..]) {
            (Kind::Test, _) => "a test of this channel".to_owned(),
            (Kind::Digest, items) => format!("{} low incidents in the last day", items.len() + self.more),
            (_, [one]) => format!("{}: {}", one.rule, one.subject),
            (_, items) => format!("{} incidents", items.len() + self.more),
        };
        let word = match self.kind {
            Kind::Firing => self.severity.as_str().to_uppercase(),
            Kind::Reminder => format!("still {}", self.severity.as_str().to_uppercase()),
            Kind::Resolved => "RECOVERED".to_owned(),
            Kind::Digest => "digest".to_owned(),
            Kind::Test => "TEST".to_owned(),
        };
        format!("[{}] {word} {what}", self.service)
    }

    /// The lines of an incident: what, who is hit, since when, what to do. The link to a runbook is not among them: each form has its own.
    pub fn lines(&self, item: &Item) -> Vec<String> {
        let mut lines = vec![item.says.clone()];
        lines.extend(item.hit.says().map(|hit| format!("Hit: {hit}")));
        let began = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_millis(item.since));
        lines.push(match item.until {
            Some(_) => format!("Lasted {} from {began}", item.lasted(self.at)),
            None => format!("Since {began}"),
        });
        // What is over, and a digest, want nothing to be done now.
        if !matches!(self.kind, Kind::Resolved | Kind::Digest) && !item.advice.is_empty() {
            lines.push(format!("What to do: {}", item.advice));
        }
        lines
    }

    /// The whole notice as text.
    pub fn text(&self) -> String {
        let mut text = self.title();
        for item in &self.items {
            text += &format!("\n\n{} {} ({})\n{}", item.rule, item.subject, item.severity.as_str(), self.lines(item).join("\n"));
            text.extend(item.runbook.iter().map(|url| format!("\nRunbook: {url}")));
        }
        if self.more > 0 {
            text += &format!("\n\nand {} more: outrigger alerts", self.more);
        }
        text
    }

    /// A notice that tries a channel.
    pub fn test(at: u64, service: &str, runbooks: Option<&str>) -> Self {
        let item = Item {
            id: super::engine::id("test", "channel"),
            rule: "test".into(),
            subject: "channel".into(),
            severity: Severity::Warning,
            says: "Somebody tries this channel with `outrigger alerts test`. Nothing is wrong.".into(),
            since: at,
            until: None,
            hit: Hit { callers: vec![("somebody".into(), 1)], caller_count: 1, routes: Vec::new(), nano_usd: Some(0) },
            advice: runbook::advice("test").to_owned(),
            runbook: runbooks.map(|url| format!("{url}#test")),
        };
        let id = format!("test-{at}");
        Self { id, kind: Kind::Test, severity: Severity::Warning, at, service: service.to_owned(), items: vec![item], more: 0 }
    }
}
