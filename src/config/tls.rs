//! Certificates, keys and roots as meant: read from PEM files, and proved to belong together. `listen` and `upstream` use them; the
//! settings that name them stand in `block::tls`.

use std::{fmt, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

/// The SHA-256 hash of a certificate's public key (its SubjectPublicKeyInfo, as in RFC 7469 section 2.4): it stays the same when a
/// certificate is renewed for the same key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl Pin {
    /// Reads `sha256/`, or `sha256//` as curl writes it, and 44 characters of base64; the error says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        // One hash in 64 begins with a slash of its own.
        let code = text.strip_prefix("sha256/").map(|code| if code.len() > 44 { code.strip_prefix('/').unwrap_or(code) } else { code });
        let hash = code.and_then(|code| STANDARD.decode(code).ok()).and_then(|bytes| bytes.try_into().ok());
        hash.map(Self).ok_or_else(|| {
            format!(
                "`{text}` is not a pin: `sha256/` and the base64 of a public key's SHA-256 hash; the error of a refused certificate \
                 says the pin of its key"
            )
        })
    }

    /// The pin of a certificate's key; `None`: it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.public_key().raw);
        hash.as_ref().try_into().ok().map(Self)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The statements of a certificate about itself, for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// DNS names and addresses it is for.
    pub names: Vec<String>,
    /// The name of its issuer.
    pub issuer: String,
    /// Whether its own name is its issuer's.
    pub self_signed: bool,
}

impl Shown {
    /// Reads a certificate; nothing of one that cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return Self::default() };
        let (issuer, subject) = (certificate.issuer(), certificate.subject());
        Self { names: names(&certificate), issuer: issuer.to_string(), self_signed: issuer.as_raw() == subject.as_raw() }
    }
}

/// Certificates of authorities, which sign the certificates of others.
#[derive(Clone, Default)]
pub struct Authorities(pub Vec<CertificateDer<'static>>);

impl Authorities {
    /// Adds them to `roots`; the error says which cannot be used.
    pub fn add_to(&self, roots: &mut RootCertStore) -> Result<(), String> {
        let add = |authority: &CertificateDer<'static>| roots.add(authority.clone());
        self.0.iter().try_for_each(add).map_err(|error| format!("an authority cannot be used: {error}"))
    }
}

/// The system's authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` included); Mozilla's where an image has none. Read from disk.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// The admin door shows the configuration: a count says more than the bytes.
impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.0.len())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("file", &self.file).field("names", &self.names).field("not_after", &self.not_after).finish()
    }
}

/// A certificate with its chain and key, and its statements about itself.
#[derive(Clone)]
pub struct Identity {
    /// For the handshake.
    pub certified: Arc<CertifiedKey>,
    /// The file of the certificate, as written.
    pub file: Arc<str>,
    /// DNS names and addresses it is for, lower case; `*.` stands for one label.
    pub names: Arc<[String]>,
    /// First second in which it is valid, since 1970.
    pub not_before: i64,
    /// Last second in which it is valid, since 1970.
    pub not_after: i64,
}

impl Identity {
    /// Reads a chain and its key; both are PEM. The error says what would be right.
    pub(super) fn read(file: &Path, chain: &[u8], key_file: &Path, key: &[u8]) -> Result<Self, String> {
        let chain = certificates(file, chain)?;
        let key = private_key(key_file, key)?;
        let leaf = parsed(file, chain.first())?;
        let names = names(&leaf);
        let validity = leaf.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let certified =
            CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!("the key in `{}` does not belong to the certificate in `{}`", key_file.display(), file.display())
                }
                other => format!("`{}` and `{}` cannot be used: {other}", file.display(), key_file.display()),
            })?;
        Ok(Self { certified: Arc::new(certified), file: file.display().to_string().into(), names: names.into(), not_before, not_after })
    }

    /// Whether the certificate is for `name` (RFC 9525 section 6.3).
    pub fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(parent) => name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
            None => name.eq_ignore_ascii_case(own),
        })
    }
}

/// The certificates of a PEM file, at least one.
pub(super) fn certificates(file: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = file.display();
    let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(format!("`{shown}` holds no certificate; it must be PEM, with `-----BEGIN CERTIFICATE-----`")),
        Ok(all) => {
            all.iter().try_for_each(|one| parsed(file, Some(one)).map(drop))?;
            Ok(all)
        }
        Err(error) => Err(format!("`{shown}` is not well-formed PEM: {error}")),
    }
}

fn private_key(file: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let shown = file.display();
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        _ if memchr::memmem::find(text, b"ENCRYPTED").is_some() => {
            format!("the key in `{shown}` is encrypted; write it without a passphrase (openssl pkey -in … -out …)")
        }
        pem::Error::NoItemsFound => format!("`{shown}` holds no private key; it must be PEM, with `-----BEGIN PRIVATE KEY-----`"),
        other => format!("`{shown}` is not well-formed PEM: {other}"),
    })
}

fn parsed<'a>(file: &Path, certificate: Option<&'a CertificateDer<'_>>) -> Result<X509Certificate<'a>, String> {
    let der = certificate.map(AsRef::as_ref).unwrap_or_default();
    match x509_parser::parse_x509_certificate(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(format!("`{}` holds a certificate that cannot be read: {error}", file.display())),
    }
}

fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    let ip: std::net::IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        _ => <[u8; 16]>::try_from(bytes).ok()?.into(),
    };
    Some(ip.to_string())
}

/// Who a client is, by a certificate that has been verified: the first URI (a SPIFFE ID, for one), DNS name, mail address or
/// common name in it; and its `X-Forwarded-Client-Cert` element (`Hash`, `Subject`, `URI`, `DNS`, as Envoy writes it).
pub fn client_names(certificate: &CertificateDer<'_>) -> Option<(String, String)> {
    let (_, leaf) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let alternatives = leaf.subject_alternative_name().ok().flatten();
    let of = |pick: fn(&GeneralName<'_>) -> Option<String>| -> Vec<String> {
        alternatives.iter().flat_map(|extension| extension.value.general_names.iter().filter_map(pick)).collect()
    };
    let uris = of(|name| if let GeneralName::URI(text) = name { Some((*text).to_owned()) } else { None });
    let dns = of(|name| if let GeneralName::DNSName(text) = name { Some((*text).to_owned()) } else { None });
    let mail = of(|name| if let GeneralName::RFC822Name(text) = name { Some((*text).to_owned()) } else { None });
    let common = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok()).map(str::to_owned);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut element = format!("Hash={hash};Subject={}", quoted(&leaf.subject().to_string()));
    uris.iter().for_each(|uri| element.push_str(&format!(";URI={}", quoted(uri))));
    dns.iter().for_each(|name| element.push_str(&format!(";DNS={}", quoted(name))));
    let name = uris.into_iter().chain(dns).chain(mail).chain(common).find(|name| !name.is_empty());
    Some((name.unwrap_or(hash), element))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn every_pin_is_read_as_it_is_written_and_as_curl_writes_it(hash: [u8; 32], slash: bool) {
            // A hash whose first bits are ones begins with a slash in base64.
            let mut hash = hash;
            hash[0] |= if slash { 0xfc } else { 0 };
            let written = Pin(hash).to_string();
            proptest::prop_assert_eq!(Pin::parse(&written), Ok(Pin(hash)));
            proptest::prop_assert_eq!(Pin::parse(&written.replacen('/', "//", 1)), Ok(Pin(hash)));
        }
    }
}
