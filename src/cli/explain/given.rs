//! The arguments of `explain`, read.

use std::io::{self, Read as _};

use http::{HeaderName, HeaderValue};

use crate::arrival::Door;

/// Largest body that is read.
const MAX_BODY: u64 = 32 << 20;

/// The body that `--data` names.
///
/// # Errors
/// Its file cannot be read.
pub(super) fn body(data: Option<&str>) -> Result<Vec<u8>, String> {
    let Some(data) = data else { return Ok(Vec::new()) };
    let Some(file) = data.strip_prefix('@') else { return Ok(data.as_bytes().to_vec()) };
    let mut bytes = Vec::new();
    let read = match file {
        "-" => io::stdin().take(MAX_BODY).read_to_end(&mut bytes),
        file => std::fs::File::open(file).and_then(|opened| opened.take(MAX_BODY).read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("{file} cannot be read: {error}"))?;
    Ok(bytes)
}

/// A header field of `--header`.
///
/// # Errors
/// The text is no field.
pub(super) fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `name: value`")?;
    let name = name.trim().parse().map_err(|error| format!("`{name}` is not a field name: {error}"))?;
    Ok((name, value.trim().parse().map_err(|error| format!("`{value}` is not a field value: {error}"))?))
}

/// The door of `--door`.
///
/// # Errors
/// The text names no door.
pub(super) fn door(text: &str) -> Result<Door, String> {
    match text {
        "inbound" => Ok(Door::Inbound),
        "outbound" => Ok(Door::Outbound),
        _ => Err("write inbound or outbound".into()),
    }
}
