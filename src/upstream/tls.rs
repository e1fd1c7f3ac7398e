//! TLS towards targets: the certificates that are accepted, the protocols that are offered, and the reasons of failed
//! handshakes in words that help.

use std::{fmt, io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
};

use crate::config::{
    Origin, Pin, Protocol, TargetTls,
    tls::{Shown, system_roots},
};

/// The TLS settings of a target.
#[derive(Debug)]
pub struct ClientTls {
    /// Offers every protocol that the target may speak.
    pub any: Arc<ClientConfig>,
    /// Offers HTTP/1.1 alone: an upgrade needs a connection of its own.
    pub http1: Arc<ClientConfig>,
    /// The name that the certificate must be for.
    pub name: ServerName<'static>,
}

/// The system's authorities, loaded at their first use.
#[derive(Debug, Default)]
pub struct SystemRoots(Option<RootCertStore>);

impl SystemRoots {
    fn get(&mut self) -> &RootCertStore {
        self.0.get_or_insert_with(system_roots)
    }
}

impl ClientTls {
    /// The settings of `tls` for the target at `origin`; the error names the one that cannot be applied.
    pub fn new(origin: &Origin, tls: &TargetTls, protocol: Protocol, system: &mut SystemRoots) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(tls.min_version.and_later())
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(origin, tls, provider, system)?));
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

/// Verifies a target's certificate as configured, and notes the facts of a refused one for the operator.
#[derive(Debug)]
struct Verifier {
    /// Checks authority, name and dates; `None`: only pins count.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// If there are any, the key must match one of them.
    pins: Vec<Pin>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(origin: &Origin, tls: &TargetTls, provider: Arc<CryptoProvider>, system: &mut SystemRoots) -> Result<Self, String> {
        let mut roots = if tls.system_roots { system.get().clone() } else { RootCertStore::empty() };
        tls.ca.add_to(&mut roots).map_err(|why| format!("`ca` of {origin}: {why}"))?;
        let authorities = match roots.is_empty() {
            true if !tls.pins.is_empty() => None,
            true => return Err(format!("no authority could vouch for {origin}: write `ca`, or the `pin` of its key")),
            false => Some(
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build()
                    .map_err(|why| format!("the authorities of {origin} cannot be used: {why}"))?,
            ),
        };
        Ok(Self { authorities, pins: tls.pins.clone(), provider })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pin = Pin::of(leaf);
        let refused = |why| {
            let refused = Refused { why, pin, shown: Shown::of(leaf), pinned: !self.pins.is_empty() };
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
        };
        if !self.pins.is_empty() && !pin.is_some_and(|pin| self.pins.contains(&pin)) {
            return Err(refused(CertificateError::ApplicationVerificationFailure));
        }
        match &self.authorities {
            None => Ok(ServerCertVerified::assertion()),
            Some(authorities) => match authorities.verify_server_cert(leaf, intermediates, name, ocsp, now) {
                Err(rustls::Error::InvalidCertificate(why)) => Err(refused(why)),
                verified => verified,
            },
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A refused certificate.
#[derive(Debug)]
struct Refused {
    why: CertificateError,
    /// The pin of its key.
    pin: Option<Pin>,
    shown: Shown,
    /// A pin was configured, and the key has another.
    pinned: bool,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.why)
    }
}

impl Refused {
    /// The flaw of the certificate of `host`, and the configuration that would accept it.
    fn explain(&self, host: &str) -> String {
        let date = |at: &UnixTime| httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(at.as_secs()));
        let pin = self.pin.map(|pin| format!("`pin: \"{pin}\"`")).unwrap_or_default();
        // No authority will ever sign it.
        let anyway = if self.shown.self_signed { format!("; if it is the right one, write {pin}") } else { String::new() };
        match &self.why {
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("the certificate of {host} expired on {}{anyway}", date(not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                format!("the certificate of {host} is not valid before {}; is this machine's clock right?{anyway}", date(not_before))
            }
            CertificateError::NotValidForNameContext { expected, .. } => match self.shown.names.as_slice() {
                [] => format!("the certificate of {host} is for no name at all; if it is the right one, write {pin}"),
                names => format!(
                    "the certificate of {host} is not for `{}` but for {}; write `server_name: {}` if that is right",
                    expected.to_str(),
                    names.join(", "),
                    names[0],
                ),
            },
            CertificateError::ApplicationVerificationFailure if self.pinned => {
                format!("the key of {host} is not the one that is pinned; if it was changed on purpose, write {pin}")
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature if self.shown.self_signed => {
                format!("the certificate of {host} is signed by itself alone{anyway}")
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "the certificate of {host} comes from an authority that is not known here ({}); write the authority's file in `ca`, \
                 `system_roots: true` if the system knows it, or {pin}",
                self.shown.issuer,
            ),
            // An authority's own certificate, as `openssl req -x509` makes it.
            other if self.shown.self_signed => {
                format!("the certificate of {host} is signed by itself alone ({other}){anyway}")
            }
            other => format!("the certificate of {host} is refused: {other}"),
        }
    }
}

/// Why a handshake with `host` failed, and the remedy.
pub fn explain(host: &str, error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return format!("no TLS with {host}: {error}");
    };
    let rustls::Error::InvalidCertificate(reason) = tls else { return format!("no TLS with {host}: {}", in_words(tls)) };
    match reason {
        CertificateError::Other(OtherError(other)) => match other.downcast_ref::<Refused>() {
            Some(refused) => refused.explain(host),
            None => format!("the certificate of {host} is refused: {other}"),
        },
        other => format!("the certificate of {host} is refused: {other}"),
    }
}

/// The meaning of the target's own refusal.
fn in_words(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, Error};
    match error {
        Error::AlertReceived(Alert::CertificateRequired) => "it asks for our certificate; write `cert` and `key`".into(),
        Error::AlertReceived(Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown) => {
            "it does not believe our certificate (`cert`)".into()
        }
        Error::AlertReceived(Alert::ProtocolVersion) => "it speaks none of the versions of TLS that are allowed (`min_version`)".into(),
        Error::AlertReceived(Alert::UnrecognisedName) => "it has no certificate for the name that is asked for (`server_name`)".into(),
        Error::InvalidMessage(_) => format!("what it sent is not TLS ({error}); is the port one of clear text (http://)?"),
        other => other.to_string(),
    }
}
