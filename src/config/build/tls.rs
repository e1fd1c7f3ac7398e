//! TLS: files are read and proved to belong together, so that a listener or target that cannot work is a mistake in the file.

use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;

use super::Build;
use crate::config::{
    Authorities, Identity, ListenerTls, Origin, RedisTls, Scheme, TargetTls,
    error::quoted,
    scalars::{RedisUrl, W},
    tls, written,
};

/// Largest PEM file; the roots of a whole system are a quarter of it.
const MAX_PEM: u64 = 1 << 20;

type File = Option<W<PathBuf>>;

impl Build<'_> {
    /// The `tls` block of the listener at `path`.
    pub(super) fn listener_tls(&mut self, path: &str, written: Option<written::ListenerTls>) -> Option<ListenerTls> {
        let written = written?;
        let mut identities = Vec::new();
        identities.extend(self.identity(path, written.cert, written.key));
        for (n, pair) in written.more.into_iter().enumerate().filter_map(|(n, pair)| Some((n, pair?))) {
            identities.extend(self.identity(&format!("{path}.more[{n}]"), pair.cert, pair.key));
        }
        let client_auth = &format!("{path}.client_auth");
        if written.client_ca.is_none() && self.seen.written(client_auth) && !self.seen.broken(&format!("{path}.client_ca")) {
            let message = "`client_auth` needs `client_ca`, the file with the authorities of clients' certificates";
            self.fault(self.seen.key(client_auth), message);
        }
        Some(ListenerTls {
            identities,
            client_ca: written.client_ca.and_then(|file| self.authorities(&format!("{path}.client_ca"), &file.0)),
            client_auth: written.client_auth.0,
            min_version: written.min_version.0,
        })
    }

    /// The block at `path` with the TLS of the target at `url`.
    pub(super) fn target_tls(&mut self, path: &str, written: Option<written::TargetTls>, url: Option<&Origin>) -> TargetTls {
        let Some(written) = written else { return TargetTls::default() };
        if let Some(url) = url.filter(|url| url.scheme == Scheme::Http) {
            let message = format!("`{url}` is not https, so none of this would apply; write the URL with https://");
            self.fault(self.seen.key(path), message);
        }
        let ca = written.ca.and_then(|file| self.authorities(&format!("{path}.ca"), &file.0));
        let server_name = written.server_name.and_then(|name| match ServerName::try_from(name.0.clone()) {
            Ok(good) => Some(good),
            Err(_) => {
                let message = format!("{} is not a host name or address", quoted(&name.0));
                self.fault(self.seen.value(&format!("{path}.server_name")), message);
                None
            }
        });
        let pins: Vec<_> = written.pin.into_iter().flatten().map(|pin| pin.0).collect();
        let roots = &format!("{path}.system_roots");
        let instead =
            ca.is_some() || !pins.is_empty() || self.seen.broken(&format!("{path}.ca")) || self.seen.broken(&format!("{path}.pin"));
        if self.seen.written(roots) && !instead {
            self.fault(self.seen.key(roots), "`system_roots` needs `ca` or `pin`: without them the system's authorities count anyway");
        }
        TargetTls {
            system_roots: written.system_roots.map_or(ca.is_none() && pins.is_empty(), |on| on.0),
            pins,
            ca: ca.unwrap_or_default(),
            identity: self.identity(path, written.cert, written.key),
            server_name,
            min_version: written.min_version.0,
        }
    }

    /// `store.redis_tls`.
    pub(super) fn redis_tls(&mut self, written: written::RedisTls, url: Option<&W<RedisUrl>>) -> RedisTls {
        let path = "store.redis_tls";
        if let Some(url) = url
            && !url.0.0.reveal().starts_with("rediss")
        {
            let message =
                "`redis_tls` means nothing without TLS: begin the URL with `rediss://`, `rediss-sentinel://` or `rediss-cluster://`";
            self.fault(self.seen.key(path), message);
        }
        let ca = written.ca.and_then(|file| self.authorities(&format!("{path}.ca"), &file.0));
        RedisTls { ca, identity: self.identity(path, written.cert, written.key) }
    }

    fn identity(&mut self, path: &str, cert: File, key: File) -> Option<Identity> {
        // Whatever is missing has been said by the walk.
        let (cert, key) = (cert?.0, key?.0);
        let chain = self.pem(&format!("{path}.cert"), &cert);
        let secret = self.pem(&format!("{path}.key"), &key);
        let read = Identity::read(&self.files.path(&cert), &chain?, &self.files.path(&key), &secret?);
        read.map_err(|message| self.fault(self.seen.value(&format!("{path}.cert")), message)).ok()
    }

    fn authorities(&mut self, path: &str, file: &Path) -> Option<Authorities> {
        let text = self.pem(path, file)?;
        let read = tls::certificates(&self.files.path(file), &text).map(Authorities);
        read.map_err(|message| self.fault(self.seen.value(path), message)).ok()
    }

    fn pem(&mut self, path: &str, file: &Path) -> Option<Vec<u8>> {
        self.files.read(file, MAX_PEM).map_err(|message| self.fault(self.seen.value(path), message)).ok()
    }
}
