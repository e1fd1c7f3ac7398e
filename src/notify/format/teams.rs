//! Microsoft Teams: an Adaptive Card 1.4 in the message that a workflow ("when a webhook request is received") takes; at most 28 KB.

use serde_json::{Value, json};

use super::cut;
use crate::{
    alert::{Kind, Notice},
    config::Severity,
};

/// Most incidents of a card.
const ITEMS: usize = 8;
/// Longest link to a runbook, in bytes; a longer one is left out.
const LINK: usize = 300;
/// Most characters of an incident's text.
const TEXT: usize = 1_200;

/// Text as Adaptive Cards show it: their Markdown draws links from brackets.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if "[]*_`\\".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// The message.
pub fn message(notice: &Notice) -> Value {
    let colour = match (notice.kind, notice.severity) {
        (Kind::Resolved, _) => "Good",
        (_, Severity::Critical) => "Attention",
        (_, Severity::Warning) => "Warning",
        (_, Severity::Low) => "Default",
    };
    let mut body = vec![json!({
        "type": "TextBlock", "text": plain(&cut(&notice.title(), 200)), "weight": "Bolder", "size": "Medium", "color": colour, "wrap": true,
    })];
    for item in notice.items.iter().take(ITEMS) {
        let lines = cut(&notice.lines(item).join("\n"), TEXT);
        let facts: Vec<Value> = [("Rule", &*item.rule), ("Subject", &*item.subject), ("Severity", item.severity.as_str())]
            .map(|(title, value)| json!({"title": title, "value": plain(&cut(value, 200))}))
            .into();
        // A line break of Adaptive Cards' Markdown is an empty line.
        let text = plain(&lines).replace('\n', "\n\n");
        let mut items = vec![json!({"type": "FactSet", "facts": facts}), json!({"type": "TextBlock", "text": text, "wrap": true})];
        if let Some(url) = item.runbook.as_ref().filter(|url| url.len() <= LINK) {
            items.push(json!({"type": "ActionSet", "actions": [{"type": "Action.OpenUrl", "title": "Runbook", "url": url}]}));
        }
        body.push(json!({"type": "Container", "separator": true, "items": items}));
    }
    let left = notice.more + notice.items.len().saturating_sub(ITEMS);
    if left > 0 {
        body.push(json!({"type": "TextBlock", "text": format!("and {left} more: outrigger alerts"), "isSubtle": true, "wrap": true}));
    }
    let card =
        json!({"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": body});
    json!({"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card}]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::format::tests::notice;

    #[test]
    fn a_card_is_small_and_whole() {
        let message = message(&notice(Kind::Firing, 80));
        assert!(message.to_string().len() < 28_000, "{}", message.to_string().len());
        let card = &message["attachments"][0]["content"];
        assert_eq!((card["type"].as_str(), card["version"].as_str()), (Some("AdaptiveCard"), Some("1.4")));
        assert!(card["body"].as_array().is_some_and(|body| body.len() == ITEMS + 2));
    }
}
