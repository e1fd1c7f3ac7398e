//! Requests that look like well-known attacks, by their path and their query. Pure.
//!
//! A small table, for what nobody sends by chance: it finds scanners and their probes, not an attacker who knows the app. The body is not read.
//! Each part is looked at as it came and as it reads without its escapes, once and twice: attacks hide behind `%252e`.

use std::{borrow::Cow, sync::LazyLock};

use percent_encoding::percent_decode;
use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::config::AttackKind;

/// A rule that finds an attack.
struct Rule {
    kind: AttackKind,
    /// Where it looks.
    part: Part,
    /// What it finds, in lower case.
    pattern: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The path, without its escapes.
    Path,
    /// The name and the value of a parameter, without their escapes.
    Query,
}

const fn rule(kind: AttackKind, part: Part, pattern: &'static str) -> Rule {
    Rule { kind, part, pattern }
}

/// The table. Patterns are of what comes after the escapes are taken away, twice, in lower case.
const RULES: &[Rule] = &[
    // Steps upwards that are still there: a client takes its own away before it sends (RFC 3986 section 5.2.4).
    rule(AttackKind::Traversal, Part::Path, r"(^|[/\\])\.\.;?([/\\]|$)"),
    // One step upwards may be a link of the app's own; two are none.
    rule(AttackKind::Traversal, Part::Query, r"(\.\.[/\\]){2}"),
    rule(AttackKind::Traversal, Part::Query, r"(^|[/\\=:])(etc/(passwd|shadow)|proc/self/|windows/win\.ini|boot\.ini)"),
    rule(AttackKind::NullByte, Part::Path, r"\x00"),
    rule(AttackKind::NullByte, Part::Query, r"\x00"),
    // A text that ends early, and a condition that always holds.
    rule(AttackKind::Sql, Part::Query, r#"['"]\s*\)*\s*(or|and)\s+['"(]*\s*[\w.]+\s*['")]*\s*(=|<|>|like\b|is\b)"#),
    rule(AttackKind::Sql, Part::Query, r"\bunion\s+(all\s+|distinct\s+)?select\s+(.*\bfrom\b|null\b|@@|[\d'\x22(]|\w+\s*[,(])"),
    rule(AttackKind::Sql, Part::Query, r"['\x22)\d]\s*;\s*(drop|delete|insert|update|alter|truncate|exec|shutdown)\s+\w"),
    rule(
        AttackKind::Sql,
        Part::Query,
        r"\b(pg_sleep|sleep|benchmark)\s*\(\s*[\d'\x22(]|\b(dbms_pipe\.receive_message|extractvalue|updatexml|xp_cmdshell)\s*\(",
    ),
    rule(AttackKind::Sql, Part::Query, r"\bwaitfor\s+delay\s+['\x22]|\binformation_schema\.|\binto\s+(out|dump)file\s+['\x22]"),
    rule(AttackKind::Sql, Part::Query, r"['\x22]\s*(--|#|/\*)\s*$"),
    rule(AttackKind::Script, Part::Query, r"<\s*(script|iframe|object|embed|svg|math)\b[^<]*(>|/)|<\s*/\s*script\s*>"),
    rule(AttackKind::Script, Part::Query, r#"<\s*[a-z][^<>]*[\s/\x22']on[a-z]{3,}\s*="#),
    rule(AttackKind::Script, Part::Query, r"=\s*(java|vb)script\s*:"),
    rule(AttackKind::Script, Part::Path, r"<\s*script\b"),
    rule(AttackKind::Script, Part::Query, r"\$\{jndi:"),
    // What scanners look for first.
    rule(
        AttackKind::Probe,
        Part::Path,
        r"(^|/)\.(env(\.[a-z]+)?|git/(config|head)|svn/entries|aws/credentials|ssh/id_[a-z0-9]+|htpasswd|ds_store)$",
    ),
    rule(
        AttackKind::Probe,
        Part::Path,
        r"/(wp-login\.php|wp-config\.php(\.[a-z~]+)?|xmlrpc\.php|phpinfo\.php|phpunit/.*/eval-stdin\.php)$",
    ),
    rule(AttackKind::Probe, Part::Path, r"^/(phpmyadmin|pma|cgi-bin|vendor/phpunit|_ignition|actuator/(env|heapdump)|hnap1|boaform)(/|$)"),
];

/// The patterns of the table, by their place in it.
static SET: LazyLock<RegexSet> = LazyLock::new(|| {
    let patterns = RULES.iter().map(|rule| rule.pattern);
    // The table is of this program: every pattern is read by its test.
    RegexSetBuilder::new(patterns).unicode(false).build().unwrap_or_else(|_| RegexSet::empty())
});

/// The kind of attack that the request looks like; `None`: it looks like none of `kinds`.
pub fn find(kinds: &[AttackKind], path: &str, query: Option<&str>) -> Option<AttackKind> {
    let in_part = |part: Part, text: &[u8]| {
        let found = SET.matches(text);
        found.iter().map(|at| &RULES[at]).find(|rule| rule.part == part && kinds.contains(&rule.kind)).map(|rule| rule.kind)
    };
    // As an app's own framework may read it: without escapes, and once more.
    let first = decoded(path.as_bytes());
    let found = in_part(Part::Path, &lower(&first)).or_else(|| escaped(&first).and_then(|text| in_part(Part::Path, &lower(&text))));
    found.or_else(|| {
        let parameters = query?.split('&').filter(|one| !one.is_empty());
        parameters.into_iter().find_map(|one| {
            let spaced = one.replace('+', " ");
            let first = decoded(spaced.as_bytes());
            in_part(Part::Query, &lower(&first)).or_else(|| escaped(&first).and_then(|text| in_part(Part::Query, &lower(&text))))
        })
    })
}

fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(text).into()
}

/// The text without its escapes; `None`: there are none left.
fn escaped(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    text.contains(&b'%').then(|| decoded(text))
}

fn lower(text: &[u8]) -> Vec<u8> {
    text.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(target: &str) -> Option<AttackKind> {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        find(&AttackKind::ALL.map(|(kind, _)| kind), path, query)
    }

    #[test]
    fn every_pattern_can_be_read() {
        assert_eq!(SET.len(), RULES.len());
    }

    #[test]
    fn well_known_attacks_are_found_also_behind_two_layers_of_escapes() {
        for (target, kind) in [
            ("/static/..%2f..%2fetc/passwd", AttackKind::Traversal),
            ("/static/%2e%2e/secret", AttackKind::Traversal),
            ("/static/%252e%252e%252fsecret", AttackKind::Traversal),
            ("/static/..;/manager", AttackKind::Traversal),
            ("/static/..%5cwindows", AttackKind::Traversal),
            ("/download?file=../../etc/hosts", AttackKind::Traversal),
            ("/download?file=%2e%2e%2f%2e%2e%2fx", AttackKind::Traversal),
            ("/download?file=/etc/passwd", AttackKind::Traversal),
            ("/download?file=file:///etc/shadow", AttackKind::Traversal),
            ("/a%00.png", AttackKind::NullByte),
            ("/a?f=x%2500", AttackKind::NullByte),
            ("/items?id=1'%20or%20'1'='1", AttackKind::Sql),
            ("/items?id=1%27+OR+1%3D1", AttackKind::Sql),
            ("/items?id=1+UNION+ALL+SELECT+name,password+FROM+users", AttackKind::Sql),
            ("/items?id=1;drop+table+users", AttackKind::Sql),
            ("/items?id=1+and+sleep(5)", AttackKind::Sql),
            ("/items?name=admin'--", AttackKind::Sql),
            ("/items?q=%3Cscript%3Ealert(1)%3C/script%3E", AttackKind::Script),
            ("/items?q=%253Cscript%253Ealert(1)", AttackKind::Script),
            ("/items?q=<img+src=x+onerror=alert(1)>", AttackKind::Script),
            ("/go?to=javascript:alert(1)", AttackKind::Script),
            ("/items?q=${jndi:ldap://x}", AttackKind::Script),
            ("/.env", AttackKind::Probe),
            ("/app/.git/config", AttackKind::Probe),
            ("/wp-login.php", AttackKind::Probe),
            ("/cgi-bin/luci", AttackKind::Probe),
        ] {
            assert_eq!(of(target), Some(kind), "{target}");
        }
    }

    #[test]
    fn what_people_write_is_none() {
        for target in [
            "/",
            "/a..b/c...d/..e",
            "/files/report..2026.pdf",
            "/docs/environment/.environment",
            "/search?q=cats+or+dogs",
            "/search?q=it's+o'clock+and+i'm+late",
            "/search?q=O'Reilly+and+sons",
            "/search?q=\"rock+and+roll\"",
            "/search?q=select+a+union+rep",
            "/search?q=the+union+select+committee",
            "/search?q=drop+table+tennis;+update+me",
            "/search?q=how+to+sleep+(well)",
            "/search?q=1+<+2+and+3+>+2",
            "/search?q=a+%3C+b",
            "/search?q=%3Cb%3Ebold%3C/b%3E",
            "/search?q=100%25+sure",
            "/search?q=C%2B%2B+%23+hash",
            "/go?to=../back",
            "/go?to=https://example.com/a/b%3Fc%3Dd",
            "/oauth?redirect_uri=https%3A%2F%2Fapp.example%2Fcb&scope=openid%20profile&state=x%3D%3D",
            "/graphql?query=%7Bme%7Bid%7D%7D",
            "/filter?where=%7B%22age%22%3A%7B%22%24gt%22%3A21%7D%7D",
            "/etc?path=etc/hosts",
            "/blog/wp-login.php.md",
        ] {
            assert_eq!(of(target), None, "{target}");
        }
    }

    #[test]
    fn only_the_kinds_that_are_named_are_looked_for() {
        assert_eq!(find(&[AttackKind::Sql], "/.env", Some("q=%00")), None);
        assert_eq!(find(&[AttackKind::NullByte], "/.env", Some("q=%00")), Some(AttackKind::NullByte));
    }
}
