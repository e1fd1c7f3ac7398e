//! The configuration of the demo: `demo.yaml`, with the addresses of this run filled in.

use std::net::SocketAddr;

/// The file as it stands; loads by itself with the usual ports.
pub const CONFIG: &str = include_str!("demo.yaml");

/// The addresses of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// The door in front of the app.
    pub inbound: SocketAddr,
    /// The door between the app and its model.
    pub outbound: SocketAddr,
    /// The admin door.
    pub admin: SocketAddr,
    /// The demo's app.
    pub app: SocketAddr,
    /// The mock provider.
    pub model: SocketAddr,
}

impl Places {
    /// `demo.yaml` with these addresses.
    pub fn config(&self) -> String {
        let mut text = CONFIG.to_owned();
        for (name, addr) in
            [("INBOUND", self.inbound), ("OUTBOUND", self.outbound), ("ADMIN", self.admin), ("APP", self.app), ("MODEL", self.model)]
        {
            let begin = format!("${{DEMO_{name}:-");
            if let Some(at) = text.find(&begin)
                && let Some(end) = text[at..].find('}')
            {
                text.replace_range(at..=at + end, &addr.to_string());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled_in() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let text = Places { inbound: at(1), outbound: at(2), admin: at(3), app: at(4), model: at(5) }.config();
        assert!(!text.contains("${"), "{text}");
        let value: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(value["inbound"]["app"], "http://127.0.0.1:4");
        assert_eq!(value["outbound"]["providers"]["openai"]["url"], "http://127.0.0.1:5");
        assert_eq!(value["admin"]["listen"], "127.0.0.1:3");
    }
}
