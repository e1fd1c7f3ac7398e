//! What there is on this machine: an app that answers, its framework by its answer, providers by the names of variables.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    cli::client::{Answer, Client},
    config::{Origin, Scheme},
};

/// Ports at which apps listen while they are made, the most usual first.
pub(super) const PORTS: [u16; 14] = [3000, 8000, 5000, 8080, 4000, 5173, 7860, 8501, 8888, 8001, 5678, 4321, 9292, 9000];
/// The port of Ollama.
pub(super) const OLLAMA: u16 = 11434;

/// The longest time that one port is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// An app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// As `inbound.app` has it: a port, or a URL.
    pub(super) app: String,
    /// Whether it has answered.
    pub(super) answers: bool,
    /// What it is made with, and what says so.
    pub(super) framework: Option<String>,
}

/// The app at `app`, a port or a URL.
pub(super) async fn at(app: &str) -> Found {
    for address in addresses(app).await {
        if let Ok(answer) = Client::tcp(address).with_timeout(PATIENCE).get("/").await {
            return Found { app: app.to_owned(), answers: true, framework: framework(&answer) };
        }
    }
    Found::silent(app)
}

/// All apps at these ports of this machine, in their order.
pub(super) async fn all(ports: &[u16]) -> Vec<Found> {
    let found = join_all(ports.iter().map(async |port| at(&port.to_string()).await)).await;
    found.into_iter().filter(|found| found.answers).collect()
}

/// Whether somebody listens at a port of this machine.
pub(super) async fn listens(port: u16) -> bool {
    matches!(timeout(PATIENCE, TcpStream::connect(("127.0.0.1", port))).await, Ok(Ok(_)))
}

/// An app behind https is not asked: its certificate is the proxy's affair.
async fn addresses(app: &str) -> Vec<SocketAddr> {
    if let Ok(port) = app.parse::<u16>() {
        return vec![([127, 0, 0, 1], port).into(), (std::net::Ipv6Addr::LOCALHOST, port).into()];
    }
    let Ok(origin) = Origin::parse(app) else { return Vec::new() };
    if origin.scheme == Scheme::Https {
        return Vec::new();
    }
    match timeout(PATIENCE, tokio::net::lookup_host((origin.host.as_str(), origin.port))).await {
        Ok(Ok(found)) => found.collect(),
        _ => Vec::new(),
    }
}

/// Words in a field of an answer, and what they tell.
const BY_FIELD: [(&str, &str, &str); 21] = [
    ("x-powered-by", "next.js", "Next.js"),
    ("x-powered-by", "express", "Express"),
    ("x-powered-by", "php", "PHP"),
    ("x-powered-by", "asp.net", "ASP.NET"),
    ("x-runtime", "", "Ruby on Rails"),
    ("server", "uvicorn", "an ASGI app, such as FastAPI, under Uvicorn"),
    ("server", "hypercorn", "an ASGI app under Hypercorn"),
    ("server", "daphne", "Django under Daphne"),
    ("server", "werkzeug", "Flask"),
    ("server", "wsgiserver", "Django"),
    ("server", "gunicorn", "a Python app under Gunicorn"),
    ("server", "waitress", "a Python app under Waitress"),
    ("server", "tornadoserver", "a Tornado app, such as Jupyter or Streamlit"),
    ("server", "kestrel", "ASP.NET"),
    ("server", "puma", "a Ruby app under Puma"),
    ("server", "webrick", "a Ruby app under WEBrick"),
    ("server", "jetty", "a Java app under Jetty"),
    ("server", "simplehttp", "Python's http.server"),
    ("server", "nginx", "nginx"),
    ("server", "apache", "Apache"),
    ("server", "caddy", "Caddy"),
];

/// Words at the beginning of a page, and what they tell: surer than the server's name.
const BY_PAGE: [(&str, &str); 5] =
    [("gradio", "Gradio"), ("datasette", "Datasette"), ("n8n", "n8n"), ("streamlit", "Streamlit"), ("/@vite/client", "Vite")];

fn framework(answer: &Answer) -> Option<String> {
    const LOOKED_AT: usize = 4096;
    let page = String::from_utf8_lossy(&answer.body[..answer.body.len().min(LOOKED_AT)]).to_lowercase();
    if let Some((word, name)) = BY_PAGE.iter().find(|(word, _)| page.contains(word)) {
        return Some(format!("{name} (its page says `{word}`)"));
    }
    let (field, word, name) = BY_FIELD.iter().find(|(field, word, _)| {
        answer.headers.get(*field).and_then(|value| value.to_str().ok()).is_some_and(|value| value.to_lowercase().contains(word))
    })?;
    Some(if word.is_empty() { format!("{name} (its answer has `{field}`)") } else { format!("{name} (`{field}` names {word})") })
}

/// A provider that the environment knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownProvider {
    /// As the file calls it.
    pub(super) name: &'static str,
    /// The API, as the file calls it.
    pub(super) api: &'static str,
    /// The variable that has its key; `None`: it needs none.
    pub(super) variable: Option<&'static str>,
    /// Its URL, where the name alone does not bring the right one.
    pub(super) url: Option<String>,
}

/// The providers that the environment knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Providers(pub(super) Vec<KnownProvider>);

/// Providers by name, with their API and the variables that SDKs read.
const KEYS: [(&str, &str, &[&str]); 9] = [
    ("openai", "openai", &["OPENAI_API_KEY"]),
    ("anthropic", "anthropic", &["ANTHROPIC_API_KEY"]),
    ("gemini", "gemini", &["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
    ("groq", "openai", &["GROQ_API_KEY"]),
    ("mistral", "openai", &["MISTRAL_API_KEY"]),
    ("together", "openai", &["TOGETHER_API_KEY"]),
    ("deepseek", "openai", &["DEEPSEEK_API_KEY"]),
    ("openrouter", "openai", &["OPENROUTER_API_KEY"]),
    ("xai", "openai", &["XAI_API_KEY"]),
];

impl Providers {
    /// By the names of variables that are set. `ollama`: whether it listens here.
    pub(super) fn of(env: &dyn Fn(&str) -> Option<String>, ollama: bool) -> Self {
        let mut found: Vec<KnownProvider> = KEYS
            .iter()
            .filter_map(|(name, api, variables)| {
                let variable = variables.iter().copied().find(|variable| env(variable).is_some())?;
                Some(KnownProvider { name, api, variable: Some(variable), url: gateway(env, name) })
            })
            .collect();
        if let (Some(endpoint), Some(_)) = (env("AZURE_OPENAI_ENDPOINT"), env("AZURE_OPENAI_API_KEY"))
            && let Ok(origin) = Origin::parse(&endpoint)
        {
            let url = if origin.base.is_empty() { format!("{origin}/openai/v1") } else { origin.to_string() };
            found.push(KnownProvider { name: "azure", api: "openai", variable: Some("AZURE_OPENAI_API_KEY"), url: Some(url) });
        }
        if ollama {
            found.push(KnownProvider { name: "ollama", api: "openai", variable: None, url: None });
        }
        Self(found)
    }
}

/// The place that the SDK's own variable names, such as a company's gateway; not one on this machine, which may be the proxy itself.
fn gateway(env: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    let url = env(&format!("{}_BASE_URL", name.to_uppercase()))?;
    let origin = Origin::parse(&url).ok()?;
    let local = origin.host == "localhost" || origin.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    (!local).then(|| origin.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// An app that gives one answer to everybody.
    async fn app(answer: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn an_app_is_known_by_its_answer() {
        for (head, body, wanted) in [
            ("server: Werkzeug/3.0 Python/3.13", "", Some("Flask (`server` names werkzeug)")),
            ("X-Powered-By: Express", "", Some("Express (`x-powered-by` names express)")),
            ("x-runtime: 0.004", "", Some("Ruby on Rails (its answer has `x-runtime`)")),
            ("server: uvicorn", "<script>window.gradio_config", Some("Gradio (its page says `gradio`)")),
            ("x-nothing: 1", "hello", None),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            let port = app(text.leak()).await;
            let found = at(&port.to_string()).await;
            assert_eq!((found.answers, found.framework.as_deref()), (true, wanted));
            assert_eq!(all(&[1, port]).await.len(), 1, "nobody listens at port 1");
        }
        assert_eq!(at("1").await, Found::silent("1"));
    }

    #[test]
    fn a_provider_is_known_by_the_name_of_its_variable() {
        let env = |name: &str| match name {
            "OPENAI_API_KEY" | "GOOGLE_API_KEY" | "AZURE_OPENAI_API_KEY" => Some("sk-hunter2".to_owned()),
            "OPENAI_BASE_URL" => Some("https://gateway.example/llm/v1/".to_owned()),
            "GEMINI_BASE_URL" => Some("http://127.0.0.1:8081/gemini".to_owned()),
            "AZURE_OPENAI_ENDPOINT" => Some("https://my.openai.azure.com/".to_owned()),
            _ => None,
        };
        let found = Providers::of(&env, true);
        let rows: Vec<_> = found.0.iter().map(|one| (one.name, one.variable, one.url.as_deref())).collect();
        assert_eq!(
            rows,
            [
                ("openai", Some("OPENAI_API_KEY"), Some("https://gateway.example/llm/v1")),
                ("gemini", Some("GOOGLE_API_KEY"), None),
                ("azure", Some("AZURE_OPENAI_API_KEY"), Some("https://my.openai.azure.com/openai/v1")),
                ("ollama", None, None),
            ]
        );
        assert!(!format!("{found:?}").contains("hunter2"));
    }
}
