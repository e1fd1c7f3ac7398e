//! A server that answers as a test says, in the clear or under TLS.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Method and path.
    pub line: String,
    /// The fields, in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Status and body of an answer.
pub type Reply = (u16, String);

/// Serves these answers on any port.
pub fn serve(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> SocketAddr {
    listen(answer, |stream| Some(Box::new(stream)))
}

/// Serves these answers under TLS.
pub fn serve_tls(config: Arc<ServerConfig>, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> SocketAddr {
    listen(answer, move |stream| Some(Box::new(StreamOwned::new(ServerConnection::new(config.clone()).ok()?, stream))))
}

trait Both: Read + Write + Send {}
impl<T: Read + Write + Send> Both for T {}

fn listen(
    answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    wrap: impl Fn(TcpStream) -> Option<Box<dyn Both>> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten().filter_map(wrap) {
            let answer = answer.clone();
            thread::spawn(move || converse(BufReader::new(stream), &*answer));
        }
    });
    address
}

/// Answers requests until the connection ends.
fn converse(mut stream: BufReader<Box<dyn Both>>, answer: &dyn Fn(&Asked) -> Reply) {
    while let Some(asked) = read(&mut stream) {
        let (status, body) = answer(&asked);
        let kind = if body.starts_with("data:") { "text/event-stream" } else { "application/json" };
        let text = format!("HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.get_mut().write_all(text.as_bytes()).and_then(|()| stream.get_mut().flush()).is_err() {
            return;
        }
    }
}

fn read(stream: &mut impl BufRead) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let line = head.lines().next()?.trim_end_matches(" http/1.1").to_owned();
    Some(Asked { line, head, body: String::from_utf8_lossy(&body).into_owned() })
}

/// A certificate of its own for 127.0.0.1 that expires at the midnight before this many days are over: PEM of certificate and key.
pub fn certificate(days: i64) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("names");
    let last = now_utc().date().checked_add(jiff::Span::new().days(days)).expect("a day");
    let part = |number: i8| u8::try_from(number).expect("positive");
    params.not_after = rcgen::date_time_ymd(last.year().into(), part(last.month()), part(last.day()));
    (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
}

/// The time now, by UTC.
#[expect(clippy::disallowed_methods, reason = "a real process takes real time")]
pub fn now_utc() -> jiff::civil::DateTime {
    jiff::Timestamp::try_from(std::time::SystemTime::now()).expect("a time").to_zoned_datetime(jiff::tz::TimeZone::UTC).datetime()
}

/// A server's TLS with a certificate.
pub fn tls((cert, key): &(String, String)) -> Arc<ServerConfig> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).expect("a key"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).expect("a pair"))
}
