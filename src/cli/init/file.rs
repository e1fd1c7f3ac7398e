//! The file that `init` writes: short, with a word to each line, and nothing in it that refuses a request.

use std::{fmt::Write as _, path::Path};

use super::look::{Found, KnownProvider, Providers};

/// Ports for the door of the clients, the usual one first.
const INBOUND: [u16; 4] = [8080, 8090, 8180, 8280];
/// Ports for the door of the app's model calls.
const OUTBOUND: [u16; 4] = [8081, 8091, 8181, 8281];

/// What will be written.
#[derive(Debug)]
pub(super) struct Plan {
    /// The app behind the proxy.
    pub(super) app: Found,
    /// Other apps that answer.
    pub(super) others: Vec<Found>,
    /// The port of the clients.
    pub(super) inbound: u16,
    /// The port of the app's model calls.
    pub(super) outbound: u16,
    providers: Vec<KnownProvider>,
}

impl Plan {
    /// For the first of the apps. `is_free`: whether nobody listens at a port.
    pub(super) fn of(found: Vec<Found>, providers: &Providers, is_free: &dyn Fn(u16) -> bool) -> Self {
        let mut found = found.into_iter();
        let app = found.next().unwrap_or_else(|| Found::silent("3000"));
        // A URL's port counts where it is a port of this machine, too: nothing is lost by another one.
        let taken: Option<u16> = app.app.rsplit(':').next().and_then(|port| port.parse().ok());
        let first = |ports: [u16; 4]| {
            let fits = |port: &u16| Some(*port) != taken;
            ports.into_iter().filter(fits).find(|port| is_free(*port)).or_else(|| ports.into_iter().find(fits)).unwrap_or(ports[0])
        };
        Self { app, others: found.collect(), inbound: first(INBOUND), outbound: first(OUTBOUND), providers: providers.0.clone() }
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        let mut text = String::from(
            "# Written by `outrigger init`. Nothing here refuses a request: a policy that is not named does nothing.\n\
             # `outrigger check` says what this file means; `outrigger reference` has every key.\n\n",
        );
        let what = match (&self.app.framework, self.app.answers) {
            (Some(framework), _) => format!("  # {framework}"),
            (None, true) => "  # it answers".to_owned(),
            (None, false) => "  # nobody has answered: say where the app is".to_owned(),
        };
        let _ = write!(
            text,
            "inbound:                       # clients -> the app\n  listen: 0.0.0.0:{}\n  app: {}{what}\n  \
             # trusted_proxies: [private]             # if a load balancer stands in front: its X-Forwarded-For is believed\n  \
             # limits: [{{key: client_ip, requests: 1000, window: 1m}}]\n  \
             # routes:\n  #   - match: {{path: /api/products/**, methods: [GET, HEAD]}}\n  #     cache: {{ttl: 60s}}\n\n",
            self.inbound, self.app.app
        );
        self.write_outbound(&mut text);
        text.push_str(
            "# `outrigger top`, and the page at http://127.0.0.1:9901/, show what happens. What was spent survives a restart with:\n\
             # store: {state_dir: /var/lib/outrigger}\n",
        );
        text
    }

    fn write_outbound(&self, text: &mut String) {
        let off = if self.providers.is_empty() { "# " } else { "" };
        let port = self.outbound;
        let _ = write!(
            text,
            "# The app's SDKs take this door: OPENAI_BASE_URL=http://127.0.0.1:{port}/v1, ANTHROPIC_BASE_URL=http://127.0.0.1:{port}; the model's name\n\
             # says the provider. {}\n{off}outbound:                      # the app -> its model providers\n{off}  listen: 127.0.0.1:{port}\n\
             {off}  providers:\n",
            match self.providers.is_empty() {
                true => "No key of a provider was found in the environment: take the `# ` away, and name yours.",
                false => "The proxy reads each key from the variable that has it.",
            }
        );
        if self.providers.is_empty() {
            text.push_str("#     openai: {keys: [\"${OPENAI_API_KEY:-}\"]}   # without a key the app's own passes through\n");
        }
        for provider in &self.providers {
            let mut terms = Vec::new();
            if provider.name == "azure" {
                terms.push(format!("api: {}", provider.api));
            }
            terms.extend(provider.url.as_ref().map(|url| format!("url: \"{url}\"")));
            terms.extend(provider.variable.map(|variable| format!("keys: [\"${{{variable}:-}}\"]")));
            let _ = writeln!(text, "    {}: {{{}}}", provider.name, terms.join(", "));
        }
        let defaults = self.defaults();
        if !defaults.is_empty() {
            let _ = writeln!(text, "  default_provider: [{}]   # of models without a name below, one for each API", defaults.join(", "));
        }
        let _ = write!(
            text,
            "  # models: {{fast: openai/gpt-4o-mini}}   # names of your own (deploy/guide/models.md)\n\
             {off}  limits:\n{off}    # counts only; take `mode: observe` away, and the day ends at 25 dollars\n\
             {off}    - {{name: budget, usd: 25, window: 1d, alert_at: [0.5, 0.8, 1.0], mode: observe}}\n\
             {off}  defaults:\n{off}    timeouts: {{connect: 5s, idle: 5m}}\n  #   retry: {{max_retries: 2}}             # and `breaker: {{}}`, \
             `fallback`, `cache: {{ttl: 1h, mode: observe}}`\n\n"
        );
    }

    /// One provider for each API that several speak.
    fn defaults(&self) -> Vec<&'static str> {
        let mut apis: Vec<&str> = self.providers.iter().map(|provider| provider.api).collect();
        apis.dedup();
        let several = |api: &str| self.providers.iter().filter(|provider| provider.api == api).count() > 1;
        let needed = apis.iter().any(|api| several(api));
        let mut told: Vec<&str> = Vec::new();
        let mut out = Vec::new();
        for provider in self.providers.iter().filter(|_| needed) {
            if !told.contains(&provider.api) {
                told.push(provider.api);
                out.push(provider.name);
            }
        }
        out
    }

    /// What was found and written, and what comes next.
    pub(super) fn told(&self, file: &Path, providers: &Providers) -> String {
        let file = file.display();
        let mut text = match (&self.app.framework, self.app.answers) {
            (Some(framework), _) => format!("app        {}: {framework}\n", self.app.app),
            (None, true) => format!("app        {}: it answers\n", self.app.app),
            (None, false) => format!("app        {}: nobody has answered there; change `inbound.app` if it is elsewhere\n", self.app.app),
        };
        if !self.others.is_empty() {
            let others: Vec<&str> = self.others.iter().map(|other| &*other.app).collect();
            let _ = writeln!(text, "           others answer at {}: --app names the right one", others.join(", "));
        }
        for provider in &providers.0 {
            let why = provider.variable.map_or("it listens on this machine".to_owned(), |variable| format!("{variable} is set"));
            let _ = writeln!(text, "provider   {} ({why})", provider.name);
        }
        if providers.0.is_empty() {
            text.push_str("provider   none: no variable with a key is set; the outbound door is written as a comment\n");
        }
        let _ = write!(
            text,
            "written    {file}\n\nnext\n  outrigger check {file}\n  outrigger run --config {file}      # clients use :{}\n",
            self.inbound
        );
        if !providers.0.is_empty() {
            let port = self.outbound;
            let _ = writeln!(
                text,
                "  export OPENAI_BASE_URL=http://127.0.0.1:{port}/v1 ANTHROPIC_BASE_URL=http://127.0.0.1:{port}   # for the app"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::{self, Overrides};

    fn plan(app: &str, env: &[&'static str], taken: &[u16]) -> Plan {
        let providers =
            Providers::of(&|name| env.contains(&name).then(|| "https://key-or-url.example".to_owned()), env.contains(&"ollama"));
        Plan::of(vec![Found { app: app.into(), answers: true, framework: None }], &providers, &|port| !taken.contains(&port))
    }

    #[test]
    fn every_file_is_good_whatever_was_found() {
        let all = [
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "GEMINI_API_KEY",
            "GROQ_API_KEY",
            "OPENAI_BASE_URL",
            "AZURE_OPENAI_ENDPOINT",
            "AZURE_OPENAI_API_KEY",
            "ollama",
        ];
        for app in ["3000", "8080", "http://app.internal:8081/base", "https://app.example"] {
            for bits in 0..1_u32 << all.len() {
                let env: Vec<&'static str> =
                    all.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0).map(|(_, name)| *name).collect();
                let text = plan(app, &env, &[8080]).text();
                let overrides = Overrides { memory_limit: Some(1 << 30), ..Overrides::default() };
                // The keys themselves may be absent where the proxy runs.
                for known in [true, false] {
                    let config = read::parse(&text, "proxy.yaml", &overrides, &|_| known.then(|| "sk-key".to_owned()));
                    let config = config.unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"));
                    assert_eq!(config.outbound.is_some(), text.contains("\noutbound:"), "{text}");
                }
                assert!(
                    !text.contains("key-or-url.example") || env.iter().any(|name| name.ends_with("URL") || name.ends_with("ENDPOINT")),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn the_commented_door_is_good_too() {
        let text = plan("3000", &[], &[]).text();
        let begun = text.find("# outbound:").expect("a comment");
        let opened: String = text[begun..]
            .lines()
            .take_while(|line| !line.is_empty())
            .map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line)))
            .collect();
        let text = format!("{}{opened}", &text[..begun]);
        let overrides = Overrides { memory_limit: Some(1 << 30), ..Overrides::default() };
        let config = read::parse(&text, "proxy.yaml", &overrides, &|_| None).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"));
        assert_eq!(config.outbound.expect("open").limits.len(), 1);
    }

    #[test]
    fn ports_that_are_taken_are_left() {
        for (app, taken, wanted) in [
            ("3000", &[][..], (8080, 8081)),
            ("8080", &[], (8090, 8081)),
            ("3000", &[8080, 8081, 8091], (8090, 8181)),
            ("http://a:8081", &[], (8080, 8091)),
        ] {
            let plan = plan(app, &[], taken);
            assert_eq!((plan.inbound, plan.outbound), wanted, "{app}");
        }
    }

    #[test]
    fn where_two_speak_one_api_a_default_is_written() {
        let one = plan("3000", &["OPENAI_API_KEY", "ANTHROPIC_API_KEY"], &[]);
        let two = plan("3000", &["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY"], &[]);
        assert_eq!((one.defaults().len(), two.defaults()), (0, vec!["openai", "anthropic"]));
        assert!(two.text().contains("\n  default_provider: [openai, anthropic]"));
    }
}
