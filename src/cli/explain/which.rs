//! The door that a request comes in by.

use http::Uri;

use super::ExplainArgs;
use crate::{arrival::Door, config::Config, proxy::model::split};

/// The door, and why it is that one.
///
/// # Errors
/// The file opens no door.
pub(super) fn door(args: &ExplainArgs, url: &Uri, path: &str, config: &Config) -> Result<(Door, String), String> {
    if let Some(door) = args.door {
        return Ok((door, "as asked".into()));
    }
    let ports = [
        (Door::Inbound, config.inbound.as_ref().map(|inbound| inbound.listen.port())),
        (Door::Outbound, config.outbound.as_ref().map(|outbound| outbound.listen.port())),
    ];
    let port = url.port_u16().filter(|port| *port != 0);
    if let Some((door, _)) = ports.into_iter().find(|(_, listens)| port.is_some() && *listens == port) {
        return Ok((door, format!("it listens on port {}", port.unwrap_or_default())));
    }
    let first = split(path).0;
    if config.outbound.as_ref().is_some_and(|outbound| outbound.providers.iter().any(|provider| &*provider.name == first)) {
        return Ok((Door::Outbound, format!("`{first}` is a provider")));
    }
    match (&config.inbound, &config.outbound) {
        (Some(_), _) => Ok((Door::Inbound, "no provider is named first in the path".into())),
        (None, Some(_)) => Ok((Door::Outbound, "the file opens no other".into())),
        (None, None) => Err("the file opens neither an inbound nor an outbound door".into()),
    }
}
