//! Warming: the requests that fill the cache.

use http::{HeaderValue, Uri, header};

use super::{Build, small, whole};
use crate::config::{
    Config, Origin, Warm,
    scalars::{Target, Word},
    secrecy, written,
};

/// Largest list that is read from a file.
const MAX_FILE: u64 = 1 << 20;

impl Build<'_> {
    pub(super) fn warm(&mut self, written: Option<written::Warm>, app: &Origin) -> Warm {
        let mut warm = Warm::default();
        let host = HeaderValue::from_str(&app.authority()).ok();
        let Some(written) = written else {
            warm.headers.extend(host.map(|host| (header::HOST, host)));
            return warm;
        };
        warm.targets = written.paths.into_iter().flatten().map(|path| path.0.0).collect();
        if let Some(file) = written.file {
            warm.targets.extend(self.lines(&file.0));
        }
        for (name, value) in written.headers.into_iter().filter_map(|(name, value)| Some((name.0, value?.0.0))) {
            let value = secrecy::marked(&name, value);
            warm.headers.append(name, value);
        }
        if !warm.headers.contains_key(header::HOST) {
            warm.headers.extend(host.map(|host| (header::HOST, host)));
            if !self.seen.broken("inbound.warm") {
                let message = "`warm` needs `headers: {host: shop.example}`, the host that clients ask for: answers are kept by host, and \
                               without one they would be kept under the app's own address, which nobody asks for";
                self.fault(self.seen.key("inbound.warm"), message);
            }
        }
        Warm { concurrency: whole(&written.concurrency), rate: small(&written.rate), wait: written.wait.0, ..warm }
    }

    /// What is asked for has to be kept.
    pub(super) fn warming(&mut self, config: &Config) {
        let Some(door) = config.inbound.as_ref().filter(|door| !door.warm.targets.is_empty()) else { return };
        if door.fallthrough.cache.is_none() && door.routes.iter().all(|route| route.policies.cache.is_none()) {
            let message = "`warm` fills the cache, and no route has one: write `cache: {}` in a route or in `defaults`";
            self.note(self.seen.key("inbound.warm"), message);
        }
    }

    /// One path per line; empty lines and those that begin with `#` do not count.
    fn lines(&mut self, file: &std::path::Path) -> Vec<Uri> {
        let shown = self.files.path(file).display().to_string();
        let at = self.seen.value("inbound.warm.file");
        let text = self.files.read(file, MAX_FILE).and_then(|text| String::from_utf8(text).map_err(|_| format!("`{shown}` is not UTF-8")));
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                self.fault(at, why);
                return Vec::new();
            }
        };
        let mut targets = Vec::new();
        for (n, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match Target::word(line) {
                Ok(target) => targets.push(target.0),
                Err(why) => self.fault(at, format!("line {n} of `{shown}`: {why}")),
            }
        }
        targets
    }
}
