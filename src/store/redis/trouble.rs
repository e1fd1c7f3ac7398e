//! Why Redis cannot be used, and the remedy in words.

/// A part of the message from the library or Redis, and the remedy.
const KNOWN: &[(&str, &str)] = &[
    ("WRONGPASS", "Redis does not accept the user and password; correct them in `store.redis`"),
    ("invalid username-password", "Redis does not accept the user and password; correct them in `store.redis`"),
    ("NOAUTH", "Redis asks for a password; write it in `store.redis`, as in redis://USER:PASSWORD@host (`default` is the usual user)"),
    ("NOPERM", "the Redis user may not do what is needed; the README lists the rules of its ACL"),
    (
        "UnknownIssuer",
        "Redis' certificate is signed by an authority that is not trusted; name that authority's file in `store.redis_tls.ca`",
    ),
    (
        "BadSignature",
        "Redis' certificate is signed by an authority that is not trusted; name that authority's file in `store.redis_tls.ca`",
    ),
    ("NotValidForName", "Redis' certificate is not made out to the host in `store.redis`; use a host that stands in the certificate"),
    ("Expired", "Redis' certificate has expired; renew it (or set the clock of this machine)"),
    ("CertificateRequired", "Redis asks for a client certificate; name one in `store.redis_tls.cert` and `key`"),
    ("BadCertificate", "Redis does not accept the client certificate in `store.redis_tls.cert`; use one of an authority that Redis trusts"),
    ("UnknownCA", "Redis does not accept the client certificate in `store.redis_tls.cert`; use one of an authority that Redis trusts"),
    ("DecryptError", "Redis does not accept the client certificate in `store.redis_tls.cert`; use one of an authority that Redis trusts"),
    ("InvalidContentType", "the port does not speak TLS; use Redis' TLS port, or a URL that begins with `redis` instead of `rediss`"),
    (
        "unknown command 'SENTINEL'",
        "what answers is a Redis and no Sentinel; name the Sentinels' own ports in `store.redis` (usually 26379)",
    ),
    ("Missing primary address", "the Sentinels do not know the master named in `store.redis`; correct `sentinelServiceName`"),
    ("Failed to connect to all sentinel nodes", "no Sentinel answers at the addresses in `store.redis`"),
    ("cluster support disabled", "Redis is not a Cluster; use a URL that begins with `redis://`"),
    ("MOVED", "Redis is a Cluster; use a URL that begins with `redis-cluster://`"),
    ("cluster state", "the Cluster is not complete: a node that owns slots is down, and no replica has taken its place yet"),
    ("CLUSTERDOWN", "the Cluster is not complete: a node that owns slots is down, and no replica has taken its place yet"),
    ("READONLY", "this Redis is a replica that cannot be written to; use its master"),
    ("LOADING", "Redis is still reading its data"),
    ("ConnectionRefused", "nothing listens at the address in `store.redis`"),
    ("Connection refused", "nothing listens at the address in `store.redis`"),
    (
        "timed out",
        "nothing answers in time at the address in `store.redis`: it is another, or it is shut off, or its port does not speak TLS as the URL (`rediss`) asks",
    ),
    ("failed to lookup address", "the host in `store.redis` has no address"),
];

/// The problem and its remedy, followed by the message `said`.
pub(super) fn advice(said: &str) -> String {
    match KNOWN.iter().find(|(part, _)| said.contains(part)) {
        Some((_, advice)) => format!("{advice}; said was: {said}"),
        None => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_comes_with_advice_and_the_rest_as_it_is() {
        let said = "WRONGPASS invalid username-password pair or user is disabled.";
        let told = advice(said);
        assert!(told.starts_with("Redis does not accept the user") && told.ends_with(said), "{told}");
        assert_eq!(advice("something else"), "something else");
    }
}
