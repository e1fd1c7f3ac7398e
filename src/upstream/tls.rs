//! TLS towards targets: whose authorities count, what is offered, and why a handshake failed, in words that help.

use std::{io, sync::Arc};

use rustls::{CertificateError, ClientConfig, RootCertStore, pki_types::ServerName, sign::SingleCertAndKey};

use crate::config::{Origin, Protocol, TargetTls, tls::system_roots};

/// What a target's handshakes need.
#[derive(Debug)]
pub struct ClientTls {
    /// Offers what the target may speak.
    pub any: Arc<ClientConfig>,
    /// Offers HTTP/1.1 alone: an upgrade needs a connection of its own.
    pub http1: Arc<ClientConfig>,
    /// The name that the certificate must be for.
    pub name: ServerName<'static>,
}

/// The system's authorities, loaded when they are first needed.
#[derive(Debug, Default)]
pub struct SystemRoots(Option<RootCertStore>);

impl SystemRoots {
    fn get(&mut self) -> &RootCertStore {
        self.0.get_or_insert_with(system_roots)
    }
}

impl ClientTls {
    /// The terms of `tls` for the target at `origin`; the error says what cannot be applied.
    pub fn new(origin: &Origin, tls: &TargetTls, protocol: Protocol, system: &mut SystemRoots) -> Result<Self, String> {
        let mut roots = if tls.system_roots { system.get().clone() } else { RootCertStore::empty() };
        tls.ca.add_to(&mut roots).map_err(|why| format!("`ca` of {origin}: {why}"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(tls.min_version.and_later())
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots);
        let mut config = match &tls.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone()))),
        };
        let (h2, h1) = (b"h2".to_vec(), b"http/1.1".to_vec());
        config.alpn_protocols = vec![h1.clone()];
        let http1 = Arc::new(config.clone());
        config.alpn_protocols = match protocol {
            Protocol::Auto => vec![h2, h1],
            Protocol::Http1 => vec![h1],
            Protocol::Http2 => vec![h2],
        };
        let name = match &tls.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(origin.host.clone())
                .map_err(|_| format!("`{}` is not a name that a certificate can be for", origin.host))?,
        };
        Ok(Self { any: Arc::new(config), http1, name })
    }
}

/// Why a handshake with `host` failed, and what would help.
pub fn explain(host: &str, error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return format!("no TLS with {host}: {error}");
    };
    let rustls::Error::InvalidCertificate(reason) = tls else { return format!("no TLS with {host}: {tls}") };
    let date = |at: &rustls::pki_types::UnixTime| {
        httpdate::fmt_http_date(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at.as_secs()))
    };
    match reason {
        CertificateError::ExpiredContext { not_after, .. } => format!("the certificate of {host} expired on {}", date(not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate of {host} is not valid before {}; is this machine's clock right?", date(not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the certificate of {host} is not for `{}` but for {}; write `server_name` if that is right",
            expected.to_str(),
            presented.join(", ")
        ),
        CertificateError::UnknownIssuer => {
            format!("the certificate of {host} comes from an authority that is not known here; write the authority's file in `ca`")
        }
        other => format!("the certificate of {host} is refused: {other}"),
    }
}
