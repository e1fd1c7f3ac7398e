//! The URL of a Redis in every form: alone, behind Sentinels, a Cluster, over a socket. All but the socket exist with TLS too.

use std::{net::IpAddr, sync::Arc};

use fred::types::config::{Config, HostMapping, TlsConfig, TlsHostMapping};

use super::tls::Tls;

const SCHEMES: [&str; 8] =
    ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel", "redis+unix", "unix"];

/// Whether the URL asks for TLS.
pub(super) fn asks_for_tls(url: &str) -> bool {
    url.starts_with("rediss")
}

/// The URL as the library's configuration. The error never repeats the URL: it may hold a password.
pub(super) fn parse(url: &str, tls: Option<&Arc<Tls>>) -> Result<Config, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if !SCHEMES.contains(&scheme) {
        return Err("a Redis URL begins with redis://, rediss://, redis-cluster://, redis-sentinel:// or unix://".into());
    }
    // The library's own TLS knows only the system's authorities: the URL that it gets does not ask for TLS.
    let scheme = match scheme {
        "unix" => "redis+unix".to_owned(),
        other => other.replacen("rediss", "redis", 1),
    };
    if scheme == "redis-sentinel" && !rest.contains("sentinelServiceName=") {
        return Err("a redis-sentinel:// URL says which master is meant: add `?sentinelServiceName=NAME`".into());
    }
    let mut config =
        Config::from_url(&format!("{scheme}://{rest}")).map_err(|error| format!("the Redis URL is not valid: {}", error.details()))?;
    config.fail_fast = false; // an absent Redis does not stop the start
    if let Some(tls) = tls {
        config.tls = Some(TlsConfig { connector: tls.client()?.into(), hostnames: TlsHostMapping::Custom(Arc::new(Names)) });
    }
    Ok(config)
}

/// A Cluster names its nodes by address, and their certificates are usually for a name: the URL's host, if it is a name.
#[derive(Debug)]
struct Names;

impl HostMapping for Names {
    fn map(&self, _: &IpAddr, default_host: &str) -> Option<String> {
        default_host.parse::<IpAddr>().is_err().then(|| default_host.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RedisTls;

    #[test]
    fn every_kind_of_url_is_known_and_others_are_refused_without_telling_the_password() {
        let tls = Tls::new(&RedisTls::default()).expect("roots");
        for url in [
            "redis://:pw@127.0.0.1:6379/1",
            "rediss://user:pw@cache.internal",
            "redis-cluster://a:7000?node=b:7000",
            "rediss-cluster://a:7000?node=b:7000",
            "redis-sentinel://a:26379?sentinelServiceName=main&node=b:26379",
            "rediss-sentinel://u:p@a:26379?sentinelServiceName=main&sentinelUsername=s&sentinelPassword=q",
            "unix:///run/redis.sock",
        ] {
            let config = parse(url, asks_for_tls(url).then_some(&tls)).expect(url);
            assert!(!config.fail_fast, "{url}");
            assert_eq!(config.tls.is_some(), url.starts_with("rediss"), "{url}");
            assert_eq!(config.server.is_clustered(), url.contains("-cluster"), "{url}");
            assert_eq!(config.server.is_sentinel(), url.contains("-sentinel"), "{url}");
        }
        let error = parse("http://:s3cret@host", None).expect_err("not Redis");
        assert!(error.contains("redis://") && !error.contains("s3cret"), "{error}");
        let error = parse("redis-sentinel://:s3cret@a:26379", None).expect_err("of which?");
        assert!(error.contains("sentinelServiceName=NAME") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn nodes_told_by_address_are_checked_by_the_name_in_the_url() {
        let address = IpAddr::from([10, 0, 0, 7]);
        assert_eq!(Names.map(&address, "redis.internal").as_deref(), Some("redis.internal"));
        assert_eq!(Names.map(&address, "10.0.0.6"), None, "each address is checked as itself");
    }
}
