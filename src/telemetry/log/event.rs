//! One event of `tracing` as one line: JSON or text, in the same words as the access log.

use std::{fmt, fmt::Write as _, time::SystemTime};

use tracing::{
    Event, Level,
    field::{Field, Visit},
};

use super::write::{escape, timestamp};
use crate::config::LogFormat;

/// An event's text and fields, without its time. Equal events have equal texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) level: Level,
    pub(super) message: String,
    /// Names with values; a value is written as JSON already.
    fields: Vec<(&'static str, Vec<u8>)>,
}

/// Names that a line begins with.
const OWN: [&str; 3] = ["timestamp", "level", "message"];

impl Said {
    /// Reads an event. An event without a message is called by its own name.
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut said = Self { level: *event.metadata().level(), message: String::new(), fields: Vec::new() };
        event.record(&mut said);
        if said.message.is_empty() {
            event.metadata().name().clone_into(&mut said.message);
        }
        said
    }

    /// Appends the line, with `more` behind the message.
    pub(super) fn write(&self, out: &mut Vec<u8>, format: LogFormat, at: SystemTime, more: &str) {
        match format {
            LogFormat::Json => self.write_json(out, at, more),
            LogFormat::Text | LogFormat::Off => self.write_text(out, at, more),
        }
    }

    fn write_json(&self, out: &mut Vec<u8>, at: SystemTime, more: &str) {
        out.extend_from_slice(b"{\"timestamp\":\"");
        timestamp(out, at);
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(self.level.as_str().as_bytes());
        out.extend_from_slice(b"\",\"message\":\"");
        escape(out, self.message.as_bytes());
        escape(out, more.as_bytes());
        out.push(b'"');
        for (name, value) in &self.fields {
            out.extend_from_slice(b",\"");
            escape(out, name.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(value);
        }
        out.extend_from_slice(b"}\n");
    }

    /// The text form, for a person. The message keeps its line breaks, as `check` prints them.
    fn write_text(&self, out: &mut Vec<u8>, at: SystemTime, more: &str) {
        timestamp(out, at);
        out.push(b' ');
        out.extend_from_slice(self.level.as_str().as_bytes());
        out.push(b' ');
        for (number, line) in self.message.split('\n').enumerate() {
            if number > 0 {
                out.push(b'\n');
            }
            escape(out, line.as_bytes());
        }
        escape(out, more.as_bytes());
        for (name, value) in &self.fields {
            out.push(b' ');
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
            out.extend_from_slice(value);
        }
        out.push(b'\n');
    }

    fn field(&mut self, field: &Field, value: Vec<u8>) {
        let name = field.name();
        // A reader of JSON takes any of two fields with one name: the first stays.
        if !OWN.contains(&name) && !self.fields.iter().any(|(known, _)| *known == name) {
            self.fields.push((name, value));
        }
    }

    fn text(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            text.clone_into(&mut self.message);
            return;
        }
        let mut value = Vec::with_capacity(text.len() + 2);
        value.push(b'"');
        escape(&mut value, text.as_bytes());
        value.push(b'"');
        self.field(field, value);
    }
}

impl Visit for Said {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity.
        if value.is_finite() { self.field(field, value.to_string().into()) } else { self.text(field, &value.to_string()) }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, value.to_string().into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, value.to_string().into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, value.to_string().into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // An error of `Debug` cuts the value short.
        let _ = write!(text, "{value:?}");
        self.text(field, &text);
    }
}
