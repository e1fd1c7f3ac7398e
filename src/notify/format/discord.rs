//! Discord's webhook: one embed an incident, at most 10, at most 6,000 characters together; nobody is mentioned.

use serde_json::{Value, json};

use super::{colour, cut};
use crate::alert::Notice;

/// Most embeds of a message.
const EMBEDS: usize = 10;

/// The message.
pub fn message(notice: &Notice) -> Value {
    let (red, green, blue) = colour(notice);
    let colour = u32::from(red) << 16 | u32::from(green) << 8 | u32::from(blue);
    let shown = notice.items.len().min(EMBEDS);
    let room = 5_500 / shown.max(1);
    let embeds: Vec<Value> = notice
        .items
        .iter()
        .take(EMBEDS)
        .map(|item| {
            let title = cut(&format!("{} · {}", item.rule, item.subject), 256.min(room / 4));
            let text = cut(&notice.lines(item).join("\n"), room - 256.min(room / 4) - 40);
            let mut embed = json!({"title": title, "description": text, "color": colour, "timestamp": super::time(item.since)});
            // The title is the link to the runbook.
            item.runbook.iter().for_each(|url| embed["url"] = url.as_str().into());
            embed
        })
        .collect();
    let left = notice.more + notice.items.len() - shown;
    let more = if left > 0 { format!(" (and {left} more: outrigger alerts)") } else { String::new() };
    let content = cut(&format!("**{}**{more}", notice.title()), 2_000);
    json!({"content": content, "embeds": embeds, "allowed_mentions": {"parse": []}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{alert::Kind, notify::format::tests::notice};

    #[test]
    fn a_message_keeps_the_bounds_of_embeds() {
        for n in [1, 2, 10, 40] {
            let message = message(&notice(Kind::Firing, n));
            let embeds = message["embeds"].as_array().expect("embeds");
            let chars = |value: &Value| value.as_str().expect("a text").chars().count();
            assert!(embeds.len() <= EMBEDS && chars(&message["content"]) <= 2_000);
            assert!(embeds.iter().all(|one| chars(&one["title"]) <= 256 && chars(&one["description"]) <= 4_096));
            assert!(embeds.iter().map(|one| chars(&one["title"]) + chars(&one["description"])).sum::<usize>() <= 6_000);
            assert_eq!(message["allowed_mentions"]["parse"], json!([]));
        }
    }
}
