//! `alerts.channels`: who is told, by which means.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{HOOK_URL, HookUrl, Severity};
use crate::config::{
    Secret,
    build::Build,
    error::quoted,
    scalars::{W, Word},
    schema::{Json, Key, Kind, Scalar, Table, kinds::SECRET},
    written::Items,
};

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// Its name.
    pub name: Arc<str>,
    /// By which means.
    pub means: Means,
    /// The mildest severity that is told.
    pub severity: Severity,
}

/// How a notice travels. URLs hold credentials.
#[derive(Debug, Clone, PartialEq)]
pub enum Means {
    /// Slack's incoming webhook: Block Kit.
    Slack(Secret),
    /// A workflow of Microsoft Teams: an Adaptive Card.
    Teams(Secret),
    /// Discord's webhook: an embed.
    Discord(Secret),
    /// PagerDuty Events v2.
    PagerDuty {
        /// The integration's routing key.
        key: Secret,
        /// Where events are posted.
        url: Secret,
    },
    /// Alertmanager v2; the base URL.
    Alertmanager(Secret),
    /// A webhook by the Standard Webhooks specification.
    Webhook {
        /// Where it is posted.
        url: Secret,
        /// Signs the body. `None`: it is not signed.
        secret: Option<Secret>,
    },
    /// Mail.
    Email(Mail),
}

impl Means {
    /// The word of the means.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Slack(_) => "slack",
            Self::Teams(_) => "teams",
            Self::Discord(_) => "discord",
            Self::PagerDuty { .. } => "pagerduty",
            Self::Alertmanager(_) => "alertmanager",
            Self::Webhook { .. } => "webhook",
            Self::Email(_) => "email",
        }
    }
}

/// How mail is sent, and to whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Mail {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TLS with the server.
    pub security: MailSecurity,
    /// User and password.
    pub login: Option<(Secret, Secret)>,
    /// The sender's address.
    pub from: String,
    /// The receivers' addresses.
    pub to: Vec<String>,
}

/// TLS with a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailSecurity {
    /// STARTTLS where the server offers it (`smtp://`); a login is sent under TLS only.
    Opportunistic,
    /// TLS from the first byte (`smtps://`).
    Tls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    slack: Option<W<HookUrl>>,
    teams: Option<W<HookUrl>>,
    discord: Option<W<HookUrl>>,
    pagerduty: Option<W<Secret>>,
    pagerduty_url: W<HookUrl>,
    alertmanager: Option<W<HookUrl>>,
    webhook: Option<W<HookUrl>>,
    secret: Option<W<Secret>>,
    email: Option<WrittenMail>,
    severity: W<Severity>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMail {
    server: W<MailUrl>,
    from: W<Address>,
    to: Items<W<Address>>,
}

/// A mail server as a URL.
#[derive(Debug, Clone, PartialEq)]
struct MailUrl {
    host: String,
    port: u16,
    security: MailSecurity,
    login: Option<(Secret, Secret)>,
}

impl Word for MailUrl {
    fn word(text: &str) -> Result<Self, String> {
        let wrong = || "is not a mail server; write smtp://host:587, smtps://host or smtp://user:password@host:587".to_owned();
        let (security, usual, rest) = match (text.strip_prefix("smtp://"), text.strip_prefix("smtps://")) {
            (Some(rest), _) => (MailSecurity::Opportunistic, 587, rest),
            (_, Some(rest)) => (MailSecurity::Tls, 465, rest),
            _ => return Err(wrong()),
        };
        let (user, server) = rest.rsplit_once('@').map_or((None, rest), |(user, server)| (Some(user), server));
        let authority: http::uri::Authority = server.trim_end_matches('/').parse().map_err(|_| wrong())?;
        if authority.host().is_empty() {
            return Err(wrong());
        }
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().map(|text| Secret::new(text.as_ref()));
        let login = match user.map(|user| user.split_once(':').ok_or_else(wrong)).transpose()? {
            Some((user, password)) => Some((decoded(user).map_err(|_| wrong())?, decoded(password).map_err(|_| wrong())?)),
            None => None,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: authority.port_u16().unwrap_or(usual), security, login })
    }
}

/// A mail address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address(String);

impl Word for Address {
    fn word(text: &str) -> Result<Self, String> {
        match text.parse::<lettre::Address>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(format!("{} is not a mail address; write name@example.com", quoted(text))),
        }
    }
}

const MAIL_URL: Kind = Kind::Scalar(&Scalar::new::<MailUrl>("a mail server", Json::Text, "\"${SMTP_URL:-}\"").secret());
const ADDRESS: Kind = Kind::Scalar(&Scalar::new::<Address>("a mail address", Json::Pattern("^[^@ ]+@[^@ ]+$"), "oncall@example.com"));
const SEVERITY: Kind =
    Kind::Scalar(&Scalar::new::<Severity>("`low`, `warning` or `critical`", Json::Words(&["low", "warning", "critical"]), "critical"));

static MAIL: Table = Table::new(
    "alerts.channels.email",
    "Mail over SMTP. `smtp://` uses STARTTLS where the server offers it, and always for a login; `smtps://` is TLS from the first byte.",
    &[
        Key::new("server", MAIL_URL, "The server.").required().eg("\"smtp://mail.example.com:587\""),
        Key::new("from", ADDRESS, "The sender.").required().eg("outrigger@example.com"),
        Key::new("to", Kind::OneOrMany(&ADDRESS), "The receivers.").required().eg("[oncall@example.com]"),
    ],
);

pub(in crate::config) static TABLE: Table = Table::new(
    "alerts.channels",
    "Somebody who is told: exactly one of the means.",
    &[
        Key::new("slack", HOOK_URL, "An incoming webhook of Slack.").eg("\"${SLACK_WEBHOOK_URL:-}\""),
        Key::new("teams", HOOK_URL, "The URL of a workflow of Microsoft Teams (\"when a webhook request is received\").")
            .eg("\"${TEAMS_URL:-}\""),
        Key::new("discord", HOOK_URL, "A webhook of Discord.").eg("\"${DISCORD_WEBHOOK_URL:-}\""),
        Key::new("pagerduty", SECRET, "The routing key of a PagerDuty integration (Events v2).").eg("\"${PAGERDUTY_ROUTING_KEY:-}\""),
        Key::new("pagerduty_url", HOOK_URL, "Where PagerDuty takes events; accounts in the EU have another.")
            .default("\"https://events.pagerduty.com/v2/enqueue\"")
            .eg("\"https://events.eu.pagerduty.com/v2/enqueue\""),
        Key::new("alertmanager", HOOK_URL, "The base URL of an Alertmanager.").eg("\"http://alertmanager:9093\""),
        Key::new("webhook", HOOK_URL, "A URL that gets the notice as JSON, by the Standard Webhooks specification.")
            .eg("\"${ALERT_WEBHOOK_URL:-}\""),
        Key::new("secret", SECRET, "Signs the webhook: `whsec_` and base64.").eg("\"${ALERT_WEBHOOK_SECRET:-}\""),
        Key::new("email", Kind::Table(&MAIL), "Mail over SMTP."),
        Key::new("severity", SEVERITY, "The mildest severity that it gets.").default("low"),
    ],
)
.exactly_one(&[&["slack", "teams", "discord", "pagerduty", "alertmanager", "webhook", "email"]])
.needs(&[("secret", "webhook")]);

pub(super) fn build(build: &mut Build<'_>, name: &str, written: Written) -> Option<Channel> {
    let path = format!("alerts.channels.{name}");
    let hook = |url: Option<W<HookUrl>>| url.map(|url| url.0.0);
    if let Some(secret) = &written.secret
        && let Err(why) = signing_key(&secret.0)
    {
        build.fault(build.seen.value(&format!("{path}.secret")), why);
    }
    let means = if let Some(url) = hook(written.slack) {
        Means::Slack(url)
    } else if let Some(url) = hook(written.teams) {
        Means::Teams(url)
    } else if let Some(url) = hook(written.discord) {
        Means::Discord(url)
    } else if let Some(key) = written.pagerduty {
        Means::PagerDuty { key: key.0, url: written.pagerduty_url.0.0 }
    } else if let Some(url) = hook(written.alertmanager) {
        Means::Alertmanager(url)
    } else if let Some(url) = hook(written.webhook) {
        Means::Webhook { url, secret: written.secret.map(|secret| secret.0) }
    } else {
        let Some(mail) = written.email else {
            if !build.seen.broken(&path) {
                let message = format!("channel `{name}` has no address, because what it is made of is not set: nobody is told by it");
                build.note(build.seen.key(&path), message);
            }
            return None;
        };
        let to: Vec<String> = mail.to.into_iter().flatten().map(|to| to.0.0).collect();
        if to.is_empty() && !build.seen.broken(&path) {
            build.fault(build.seen.value(&format!("{path}.email.to")), "nobody gets the mail: `to` is empty");
        }
        let MailUrl { host, port, security, login } = mail.server.0;
        Means::Email(Mail { host, port, security, login, from: mail.from.0.0, to })
    };
    Some(Channel { name: name.into(), means, severity: written.severity.0 })
}

/// The key of a signing secret (Standard Webhooks: 24 to 64 bytes in base64 behind `whsec_`); the error says what would be right.
pub fn signing_key(secret: &Secret) -> Result<Vec<u8>, &'static str> {
    let key = secret.reveal().strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    key.filter(|key| (24..=64).contains(&key.len()))
        .ok_or("is not a signing secret; write `whsec_` and the base64 of 24 to 64 random bytes: echo whsec_$(openssl rand -base64 32)")
}
