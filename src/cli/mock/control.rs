//! The control endpoints under `/mock/`, which no provider has.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{api, faults::Fault, ledger::Ledger, stream::Reply};

/// Answers a request to `/mock/...`.
pub(super) fn answer(ledger: &Ledger, method: &Method, path: &str, body: &[u8]) -> Response<Reply> {
    let (status, value) = match (method.as_str(), path) {
        ("GET", "/mock/books") => (StatusCode::OK, ledger.books.lock().to_json()),
        ("GET", "/mock/requests") => (StatusCode::OK, ledger.seen_json()),
        ("GET", "/mock/script") => (StatusCode::OK, json!({"left": ledger.script.lock().len()})),
        ("POST", "/mock/script") => match script(body) {
            Ok(faults) => {
                let left = faults.len();
                ledger.script.lock().set(faults);
                (StatusCode::OK, json!({"left": left}))
            }
            Err(message) => (StatusCode::BAD_REQUEST, json!({"error": message})),
        },
        ("POST", "/mock/reset") => {
            ledger.reset();
            (StatusCode::OK, json!({}))
        }
        _ => (StatusCode::NOT_FOUND, json!({"error": "GET /mock/books, /mock/requests, /mock/script; POST /mock/script, /mock/reset"})),
    };
    api::json_response(status, &value)
}

fn script(body: &[u8]) -> Result<Vec<Fault>, String> {
    let list: Value = serde_json::from_slice(body).map_err(|error| format!("a JSON list of faults is wanted: {error}"))?;
    let list = list.as_array().ok_or("a JSON list of faults is wanted")?;
    list.iter()
        .map(|fault| match fault {
            Value::String(text) => text.parse().map_err(|error: super::UnknownFault| error.to_string()),
            Value::Number(status) => status.to_string().parse().map_err(|error: super::UnknownFault| error.to_string()),
            other => Err(format!("`{other}` is not a fault")),
        })
        .collect()
}
