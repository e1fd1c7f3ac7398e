//! Signatures by the Standard Webhooks specification (1.0): HMAC-SHA256 over `id.timestamp.body`, as `v1,` and base64.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;

use crate::{
    config::{Secret, signing_key},
    fetch::Errand,
};

/// The header of the message's id.
pub const ID: &str = "webhook-id";
/// The header of the time, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header of the signatures, separated by spaces.
pub const SIGNATURE: &str = "webhook-signature";

/// Makes an errand a signed message: its three fields. Without a secret, or with one that signs nothing, it has no signature. `timestamp`:
/// seconds since 1970.
pub fn seal(errand: &mut Errand, secret: Option<&Secret>, id: &str, timestamp: u64) {
    let signature = secret.and_then(|secret| sign(secret, id, timestamp, &errand.body));
    let fields = [(ID, Some(id.to_owned())), (TIMESTAMP, Some(timestamp.to_string())), (SIGNATURE, signature)];
    for (name, value) in fields {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            errand.headers.insert(name, value);
        }
    }
}

/// The signature of a message at `timestamp` (seconds since 1970). `None`: the secret is not one (see [`signing_key`]).
pub fn sign(secret: &Secret, id: &str, timestamp: u64, body: &[u8]) -> Option<String> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &signing_key(secret).ok()?);
    let mut signing = hmac::Context::with_key(&key);
    signing.update(format!("{id}.{timestamp}.").as_bytes());
    signing.update(body);
    Some(format!("v1,{}", STANDARD.encode(signing.sign())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    #[test]
    fn the_known_message_has_the_known_signature() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
        assert_eq!(sign(&Secret::new("plain"), "m", 0, b""), None);
    }
}
