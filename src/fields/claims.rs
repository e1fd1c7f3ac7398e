//! Fields that the proxy itself owns or believes, in every spelling that an app may take for them.
//!
//! CGI, WSGI, Rack and PHP make a variable of a field: letters become upper case, and every other character but a digit becomes
//! an underscore. `X-Forwarded-For`, `X_Forwarded_For` and `x.forwarded.for` all become `HTTP_X_FORWARDED_FOR`, and which of
//! them an app sees is chance. A name that folds into one of ours with another spelling never passes, from any sender.
//!
//! | field | from a trusted peer | from others | another spelling |
//! |---|---|---|---|
//! | `x-forwarded-*`, `x-real-ip`, `forwarded`, headers of `caller` | passes | removed | removed |
//! | `x-request-id` | passes | replaced | removed |
//! | `outrigger-*`, fields of `auth.forward.copy` | removed | removed | removed |
//!
//! `Via` and `baggage` have no other spelling. As trailers, none of these fields passes.

use http::{HeaderMap, HeaderName};

use crate::http1::{Id, Name, Named};

/// The fields of a door that not every sender may set.
#[derive(Debug, Clone)]
pub struct Claims {
    /// `caller` headers.
    callers: Vec<HeaderName>,
    /// Fields that only a service that decides may set.
    decided: Vec<HeaderName>,
    /// The inbound door. Outbound, the app's fields are believed, and only our own names are refused to all.
    inbound: bool,
}

/// The senders that may set a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Any sender.
    Anybodys,
    /// A trusted peer alone.
    Trusted,
    /// No sender: the field is our own, or another spelling of a field that not every sender may set.
    Nobodys,
}

impl Claims {
    /// The claims of the outbound door: our own names alone.
    pub const NONE: Self = Self { callers: Vec::new(), decided: Vec::new(), inbound: false };

    /// The claims of the inbound door, with the headers of `callers`, and with those that only a service that decides may set.
    pub fn inbound(callers: impl IntoIterator<Item = HeaderName>, decided: impl IntoIterator<Item = HeaderName>) -> Self {
        Self { callers: callers.into_iter().collect(), decided: decided.into_iter().collect(), inbound: true }
    }

    /// The senders that may set the field.
    pub fn whose(&self, name: Name<'_>) -> Whose {
        if self.decided.iter().any(|own| folds_to(name.as_str(), own.as_str())) {
            return Whose::Nobodys;
        }
        let is_ours = self.inbound
            && matches!(
                name.id(),
                Id::XForwardedFor | Id::XForwardedHost | Id::XForwardedProto | Id::XForwardedClientCert | Id::XRealIp | Id::Forwarded
            );
        let known = name.id().is_known();
        if known && !is_ours && self.callers.is_empty() {
            return Whose::Anybodys;
        }
        let name = name.as_str();
        let ours = match name.as_bytes().first() {
            _ if is_ours => return Whose::Trusted,
            // A name that the house knows is no other spelling of these names.
            _ if known => None,
            Some(b'o' | b'O') if begins_as(name, "outrigger-") => return Whose::Nobodys,
            Some(b'x' | b'X') if self.inbound && begins_as(name, "x-forwarded-") => {
                return if is_plain(name) { Whose::Trusted } else { Whose::Nobodys };
            }
            Some(b'x' | b'X') if self.inbound => ["x-request-id", "x-real-ip"].into_iter().find(|ours| folds_to(name, ours)),
            _ => None,
        };
        let ours = ours.or_else(|| self.callers.iter().map(HeaderName::as_str).find(|caller| folds_to(name, caller)));
        match ours {
            None => Whose::Anybodys,
            Some(ours) if ours.eq_ignore_ascii_case(name) => Whose::Trusted,
            Some(_) => Whose::Nobodys,
        }
    }

    /// Removes every field but [`Whose::Anybodys`] from a request's trailers: an app that merges trailers into the head would believe them.
    pub fn scrub(&self, trailers: &mut HeaderMap) {
        const OURS: [Id; 4] = [Id::XRequestId, Id::Via, Id::Baggage, Id::Traceparent];
        let is_claim = |name: &HeaderName| {
            let name = name.name();
            self.whose(name) != Whose::Anybodys || (self.inbound && OURS.contains(&name.id()))
        };
        let claims: Vec<HeaderName> = trailers.keys().filter(|name| is_claim(name)).cloned().collect();
        for name in claims {
            trailers.remove(name);
        }
    }
}

/// Whether `name` becomes the same variable as `ours`, which is in lower case.
pub fn folds_to(name: &str, ours: &str) -> bool {
    name.len() == ours.len() && begins_as(name, ours)
}

fn begins_as(name: &str, ours: &str) -> bool {
    let fold = |b: u8| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'_' };
    name.len() >= ours.len() && name.bytes().zip(ours.bytes()).all(|(a, b)| fold(a) == fold(b))
}

/// Whether a name has letters, digits and hyphens alone.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).expect("a name")
    }

    fn claims() -> Claims {
        Claims::inbound([name("x-user-id"), name("remote_user")], [name("x-auth-user")])
    }

    #[test]
    fn every_field_is_somebodys() {
        for (text, whose) in [
            ("x-forwarded-for", Whose::Trusted),
            ("X-Forwarded-Anything", Whose::Trusted),
            ("x-forwarded-client-cert", Whose::Trusted),
            ("x-real-ip", Whose::Trusted),
            ("forwarded", Whose::Trusted),
            ("x-user-id", Whose::Trusted),
            ("remote_user", Whose::Trusted),
            ("x_forwarded_for", Whose::Nobodys),
            ("X-Forwarded_For", Whose::Nobodys),
            ("x.forwarded.for", Whose::Nobodys),
            ("x-forwarded-client_cert", Whose::Nobodys),
            ("x_real_ip", Whose::Nobodys),
            ("x~real~ip", Whose::Nobodys),
            ("x_request_id", Whose::Nobodys),
            ("x-auth-user", Whose::Nobodys),
            ("X_Auth.User", Whose::Nobodys),
            ("x-user_id", Whose::Nobodys),
            ("remote-user", Whose::Nobodys),
            ("outrigger-caller", Whose::Nobodys),
            ("Outrigger_Caller", Whose::Nobodys),
            ("x-request-id", Whose::Anybodys),
            ("x-forwarded", Whose::Anybodys),
            ("x-real-ip-2", Whose::Anybodys),
            ("x_tenant", Whose::Anybodys),
            ("via", Whose::Anybodys),
            ("accept", Whose::Anybodys),
        ] {
            assert_eq!(claims().whose(name(text).name()), whose, "{text}");
        }
        let outbound = Claims::NONE;
        assert_eq!(outbound.whose(name("x_forwarded_for").name()), Whose::Anybodys);
        assert_eq!(outbound.whose(name("outrigger.caller").name()), Whose::Nobodys);
    }

    proptest! {
        /// Any character in place of the hyphens: the app would take the field for ours, and no sender may set it.
        #[test]
        fn no_spelling_passes(
            ours in prop::sample::select(vec!["x-forwarded-for", "x-forwarded-proto", "x-real-ip", "x-request-id", "x-user-id", "remote_user",
                "outrigger-caller"]),
            signs in prop::collection::vec(prop::sample::select("!#$%&'*+-.^_`|~".chars().collect::<Vec<_>>()), 3),
            upper: bool,
        ) {
            let mut signs = signs.into_iter();
            let spelled: String = ours.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { signs.next().unwrap_or('_') }).collect();
            let text = if upper { spelled.to_uppercase() } else { spelled.clone() };
            // As it came: a `HeaderName` is in lower case.
            let whose = claims().whose(text.as_str().name());
            let sent = name(&text);
            if spelled == ours {
                prop_assert_ne!(whose == Whose::Anybodys, ours != "x-request-id");
            } else {
                prop_assert_eq!(whose, Whose::Nobodys, "{}", spelled);
            }
            let mut trailers = HeaderMap::new();
            trailers.insert(sent, http::HeaderValue::from_static("mallory"));
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            claims().scrub(&mut trailers);
            prop_assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["grpc-status"]);
        }
    }
}
