//! What may be a credential, and is not shown; and what is harmless, and is.
//!
//! Who may see a configuration (a terminal, a log, the admin door) may not use the credentials in it. The name under which a
//! value stands decides, and its form: where neither speaks of a credential, a value that is hidden would only hide the mistake.

use http::{HeaderName, HeaderValue};

/// Parts of names that speak of a credential.
const NAMES: [&str; 16] = [
    "key",
    "keys",
    "apikey",
    "token",
    "tokens",
    "secret",
    "secrets",
    "password",
    "passwd",
    "pass",
    "auth",
    "authorization",
    "credential",
    "credentials",
    "cookie",
    "session",
];
/// How the keys of well-known services begin.
const PREFIXES: [&str; 13] = ["sk-", "ork_", "pk-", "rk-", "xai-", "gsk_", "ghp_", "glpat-", "xoxb-", "AKIA", "ASIA", "AIza", "eyJ"];
/// A run of letters and digits that is this long, and mixed, is made by a machine.
const RUN: usize = 16;

/// Whether a key or field of this name holds a credential.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| NAMES.contains(&part)) || name.ends_with("key") || name.ends_with("token")
}

/// Whether a value looks like a credential: by its prefix, as a URL with a password, a scheme of `Authorization`, a long run of mixed
/// letters and digits, or a UUID.
pub fn is_secret_value(value: &str) -> bool {
    if PREFIXES.iter().any(|prefix| value.starts_with(prefix) && value.len() > prefix.len() + 4) {
        return true;
    }
    // `user:password@host`
    if value.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().unwrap_or_default().contains('@')) {
        return true;
    }
    if value.split_once(' ').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("basic")) {
        return true;
    }
    value.split(|c: char| !c.is_ascii_alphanumeric()).any(is_random) || is_uuid(value)
}

fn is_random(run: &str) -> bool {
    let kinds = [char::is_lowercase, char::is_uppercase, char::is_numeric];
    run.len() >= RUN && kinds.iter().filter(|kind| run.contains(**kind)).count() > 1
}

fn is_uuid(value: &str) -> bool {
    value.len() == 36 && value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') && value.matches('-').count() == 4
}

/// A field's value, marked as sensitive where it may be a credential: the admin door shows the configuration, and not that.
pub(super) fn marked(name: &HeaderName, mut value: HeaderValue) -> HeaderValue {
    let shown = value.to_str().is_ok_and(|text| !is_secret_name(name.as_str()) && !is_secret_value(text));
    value.set_sensitive(!shown);
    value
}

/// Whether a secret is written in a way that shows nothing of it: by variables or a URL without a password.
pub(super) fn is_reference(written: &str) -> bool {
    if foreign_variable(written).is_some_and(is_constant) {
        return true;
    }
    if let Some((scheme, rest)) = written.split_once("://") {
        return scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '+')
            && !rest.contains('@')
            && !rest.contains("assword");
    }
    let mut rest = written.strip_prefix("Bearer ").or_else(|| written.strip_prefix("Basic ")).unwrap_or(written);
    let mut variables = 0;
    while let Some(after) = rest.strip_prefix("${") {
        let Some((inside, more)) = after.split_once('}') else { return false };
        if !matches!(inside.split_once(":-"), None | Some((_, "" | "none"))) {
            return false;
        }
        variables += 1;
        rest = more;
    }
    rest.is_empty() && variables > 0
}

/// A variable as other programs write it, which would be taken for the secret itself; what is wrong with it.
pub(super) fn unexpanded(written: &str) -> Option<String> {
    if let Some(name) = foreign_variable(written) {
        // Only what looks like the name of a variable is shown: `$ecret` may be a password.
        let shown = if is_constant(name) { name } else { "NAME" };
        return Some(format!("is a name and not the value, and is not expanded in this form; write \"${{{shown}}}\""));
    }
    if written.strip_prefix('<').is_some_and(|rest| rest.ends_with('>')) {
        return Some("is a place for the value and not the value; write it as \"${NAME}\"".to_owned());
    }
    // `Bearer $TOKEN`, `redis://:$PASSWORD@redis`; `$$` is a dollar sign.
    let mut rest = written;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        if after.starts_with(['$', '{']) {
            rest = &after[1..];
            continue;
        }
        let end = after.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).unwrap_or(after.len());
        if end >= 3 && is_constant(&after[..end]) {
            return Some("has a `$` with a name behind it, which is not expanded; write \"${NAME}\", or `$$` for a dollar sign".to_owned());
        }
        rest = after;
    }
    None
}

/// The name in a variable that is written as a shell, a template or another gateway writes it.
fn foreign_variable(written: &str) -> Option<&str> {
    const STARTS: [(&str, &str); 10] = [
        ("$(", ")"),
        ("{{", "}}"),
        ("%", "%"),
        ("env:", ""),
        ("ENV:", ""),
        ("env.", ""),
        ("$env:", ""),
        ("os.environ/", ""),
        ("process.env.", ""),
        ("$", ""),
    ];
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_. ".contains(c))
    };
    let inside = STARTS.iter().find_map(|(start, end)| written.strip_prefix(start)?.strip_suffix(end));
    inside.map(str::trim).filter(|name| is_name(name))
}

fn is_constant(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_forms_of_credentials_are_known_and_harmless_values_are_not_taken_for_them() {
        for name in ["api_key", "X-Api-Key", "authorization", "OPENAI_TOKEN", "keys", "cookie", "admin-password", "accesskey"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["ttl", "monkeys", "path", "x-beta", "accept-language", "max_retries", "host"] {
            assert!(!is_secret_name(name), "{name}");
        }
        for value in [
            "sk-proj-abcdef",
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "0123456789abcdef0123456789abcdef",
            "123e4567-e89b-12d3-a456-426614174000",
            "redis://:hunter2@redis:6379",
            "Bearer abc",
        ] {
            assert!(is_secret_value(value), "{value}");
        }
        for value in [
            "60s",
            "client_ip",
            "gpt-4o-mini-2024-07-18",
            "/etc/outrigger/tls.crt",
            "http://127.0.0.1:3000",
            "application/json",
            "[private]",
            "sk-",
        ] {
            assert!(!is_secret_value(value), "{value}");
        }
    }

    #[test]
    fn a_secret_by_reference_shows_nothing_of_itself() {
        for written in ["${KEY}", "${KEY:-}", "Bearer ${TOKEN:-none}", "${A}${B}", "redis://redis:6379/0", "unix:///run/redis.sock"] {
            assert!(is_reference(written), "{written}");
        }
        for written in ["", "hunter2", "${KEY:-hunter2}", "a${KEY}", "redis://:p@redis", "redis-sentinel://a:1?sentinelPassword=p", "${KEY"]
        {
            assert!(!is_reference(written), "{written}");
        }
    }

    #[test]
    fn a_variable_of_another_program_is_no_secret() {
        assert!(unexpanded("$OPENAI_API_KEY").is_some_and(|why| why.contains("\"${OPENAI_API_KEY}\"")));
        assert!(unexpanded("$ecret").is_some_and(|why| !why.contains("ecret")), "it may be a password");
        for written in
            ["$KEY", "$key", "$(KEY)", "{{ key }}", "%KEY%", "env:KEY", "os.environ/KEY", "<your key>", "Bearer $TOKEN", "redis://:$PASS@r"]
        {
            assert!(unexpanded(written).is_some(), "{written}");
        }
        for written in ["sk-1", "${KEY}", "$$KEY", "pa$$WORD", "pa$wor", "p$A", "costs $5", "a%b", "redis://redis"] {
            assert!(unexpanded(written).is_none(), "{written}");
        }
    }
}
