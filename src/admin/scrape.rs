//! `/metrics` in the form that the scraper asks for: OpenMetrics if it prefers that, else the text format.

use http::{HeaderMap, header};

use crate::telemetry::metrics::Exposition;

/// The form that `Accept` prefers (RFC 9110 section 12.5.1). OpenMetrics must be named, and is taken when it is wanted at least as much
/// as the text format.
pub fn form(headers: &HeaderMap) -> Exposition {
    let (mut open, mut text) = (0, 0);
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    for element in lines.flat_map(|line| line.split(',')) {
        let mut parts = element.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut weight, mut version) = (1000, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => weight = thousandths(value.trim()),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        match kind.as_str() {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => open = open.max(weight),
            "text/plain" if matches!(version, None | Some("0.0.4")) => text = text.max(weight),
            _ => {}
        }
    }
    if open > 0 && open >= text { Exposition::OpenMetrics } else { Exposition::Text }
}

/// The media type of a form.
pub fn content_type(form: Exposition) -> &'static str {
    match form {
        Exposition::Text => "text/plain; version=0.0.4; charset=utf-8",
        Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
    }
}

/// A weight in thousandths; what is no weight counts as none.
fn thousandths(weight: &str) -> u32 {
    weight.parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight)).map_or(0, |weight| (weight * 1000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_prefer_it() {
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                                  application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                                  text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, open) in [
            (PROMETHEUS, true),
            ("application/openmetrics-text", true),
            ("Application/OpenMetrics-Text; version=\"1.0.0\"", true),
            ("text/plain;q=0.5, application/openmetrics-text;q=0.5", true),
            ("text/plain, application/openmetrics-text;q=0.5", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=2", false),
            ("application/openmetrics-text;version=0.0.1", false),
            ("application/openmetrics-text;version=2.0.0", false),
            ("text/plain;version=0.0.4", false),
            ("*/*", false),
            ("application/*", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().expect("a value"))]);
            assert_eq!(form(&headers) == Exposition::OpenMetrics, open, "{accept}");
        }
        assert_eq!(form(&HeaderMap::new()), Exposition::Text, "nothing was asked for");
    }
}
