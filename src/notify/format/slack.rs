//! Slack's Block Kit (api.slack.com/reference/block-kit): a header, a section an incident, a context; at most 50 blocks.
//!
//! Names of callers and routes come from outside: they are escaped, so that no name can mention a person or draw a link.

use serde_json::{Value, json};

use super::cut;
use crate::alert::Notice;

/// Most characters of a section's text.
const SECTION: usize = 3_000;
/// Most characters of a header.
const HEADER: usize = 150;
/// Longest link to a runbook, in bytes; a longer one is left out.
const LINK: usize = 1_000;
/// Most blocks of a message.
const BLOCKS: usize = 50;

/// `&`, `<` and `>` as Slack wants them.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Escaped, and at most `most` characters long: an escape is not cut in the middle.
fn bounded(text: &str, most: usize) -> String {
    let whole = escaped(text);
    if whole.chars().count() <= most {
        return whole;
    }
    let mut kept = String::new();
    for character in text.chars() {
        let next = escaped(&character.to_string());
        if kept.chars().count() + next.chars().count() >= most {
            break;
        }
        kept += &next;
    }
    kept.push('…');
    kept
}

/// The message.
pub fn message(notice: &Notice) -> Value {
    let title = notice.title();
    let mut blocks = vec![json!({"type": "header", "text": {"type": "plain_text", "text": cut(&title, HEADER), "emoji": false}})];
    // Each incident may need a divider.
    for item in notice.items.iter().take((BLOCKS - 2) / 2) {
        if blocks.len() > 1 {
            blocks.push(json!({"type": "divider"}));
        }
        let head = format!("*{} · {}* ({})", escaped(&item.rule), bounded(&item.subject, 300).replace('*', "∗"), item.severity.as_str());
        // Our own link is the only one: nothing else in the text becomes one.
        let link = item.runbook.as_ref().map(|url| format!("\n<{}|Runbook>", escaped(url).replace('|', "%7C"))).unwrap_or_default();
        let link = if link.len() <= LINK { link } else { String::new() };
        let body = bounded(&notice.lines(item).join("\n"), SECTION - head.chars().count() - 1 - link.chars().count());
        blocks.push(json!({"type": "section", "text": {"type": "mrkdwn", "text": format!("{head}\n{body}{link}"), "verbatim": true}}));
    }
    let mut foot = format!("outrigger · {} · {}", escaped(&notice.service), super::time(notice.at));
    if notice.more > 0 {
        foot += &format!(" · and {} more: outrigger alerts", notice.more);
    }
    blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": foot}]}));
    json!({"text": bounded(&title, SECTION), "blocks": blocks})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{alert::Kind, notify::format::tests::notice};

    /// The rules of Block Kit that a message of ours could break.
    fn check(message: &Value) {
        let chars = |value: &Value| value.as_str().expect("a text").chars().count();
        assert!(chars(&message["text"]) > 0);
        let blocks = message["blocks"].as_array().expect("blocks");
        assert!((1..=BLOCKS).contains(&blocks.len()));
        for block in blocks {
            match block["type"].as_str().expect("a type") {
                "header" => assert!((1..=HEADER).contains(&chars(&block["text"]["text"])) && block["text"]["type"] == "plain_text"),
                "section" => assert!((1..=SECTION).contains(&chars(&block["text"]["text"])) && block["text"]["type"] == "mrkdwn"),
                "context" => assert!((1..=10).contains(&block["elements"].as_array().expect("elements").len())),
                "divider" => {}
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_message_keeps_the_bounds_and_no_name_can_call_a_person() {
        for kind in [Kind::Firing, Kind::Reminder, Kind::Resolved, Kind::Digest, Kind::Test] {
            for n in [1, 2, 20, 80] {
                let message = message(&notice(kind, n));
                check(&message);
                assert!(message.to_string().contains("<https://wiki.example/alerts#error_rate|Runbook>"), "the link can be opened");
                // Slack reads mentions in `mrkdwn` alone; a header is plain text.
                let read = message["blocks"].as_array().expect("blocks").iter().filter(|block| block["type"] != "header");
                let text = read.map(Value::to_string).collect::<String>() + message["text"].as_str().expect("a text");
                assert!(!text.contains("<!channel>") && !text.contains("<@U1>"), "{text}");
            }
        }
    }
}
