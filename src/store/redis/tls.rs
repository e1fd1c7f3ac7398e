//! TLS towards Redis. Authorities and client certificate can be replaced while connections are up: the next connections use the new ones.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

use crate::config::{RedisTls, tls::system_roots};

/// Checks Redis's certificate with the newest authorities and presents the newest client certificate.
#[derive(Debug)]
pub(super) struct Tls {
    verifier: ArcSwap<WebPkiServerVerifier>,
    identity: ArcSwapOption<CertifiedKey>,
}

impl Tls {
    /// The error says why no authority can be used.
    pub(super) fn new(meant: &RedisTls) -> Result<Arc<Self>, String> {
        let verifier = ArcSwap::new(verifier(meant)?);
        Ok(Arc::new(Self { verifier, identity: ArcSwapOption::from(identity(meant)) }))
    }

    /// Replaces both for connections from now on; on an error nothing changes.
    pub(super) fn renew(&self, meant: &RedisTls) -> Result<(), String> {
        self.verifier.store(verifier(meant)?);
        self.identity.store(identity(meant));
        Ok(())
    }

    /// The TLS settings of a connection.
    pub(super) fn client(self: &Arc<Self>) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            // The check is the usual one behind a pointer that can be replaced, not a weaker one.
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_client_cert_resolver(self.clone());
        // A resumed session would skip the check.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn verifier(meant: &RedisTls) -> Result<Arc<WebPkiServerVerifier>, String> {
    let roots = match &meant.ca {
        None => system_roots(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            authorities.add_to(&mut roots)?;
            roots
        }
    };
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().map_err(|error| error.to_string())
}

fn identity(meant: &RedisTls) -> Option<Arc<CertifiedKey>> {
    meant.identity.as_ref().map(|identity| identity.certified.clone())
}

impl ServerCertVerifier for Tls {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier.load().verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.load().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.load().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.load().supported_verify_schemes()
    }
}

impl ResolvesClientCert for Tls {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.identity.load_full()
    }

    fn has_certs(&self) -> bool {
        self.identity.load().is_some()
    }
}
