//! `admin.tokens`: who may look, and who may change something, over TCP.

use std::{collections::BTreeSet, sync::Arc};

use serde::Deserialize;

use crate::config::{
    Secret,
    build::Build,
    scalars::{Name, W, words},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{NAME, SECRET},
    },
    written::Items,
};

/// What somebody may do at the admin door. A later role may do what an earlier one may. A role that shows secrets in the clear has its
/// place at the end; no page shows any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything but the configuration.
    Read,
    /// Look at the configuration, and change something.
    Operate,
}

impl Role {
    /// The word of the role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }
}

/// A token of the admin door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose it is; stands in the log of changes.
    pub name: Arc<str>,
    /// What its holder may do.
    pub role: Role,
    /// The token itself.
    pub token: Secret,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    name: Option<W<Name>>,
    role: Option<W<Role>>,
    token: Option<W<Secret>>,
}

words! {
    Role: "read" => Self::Read, "operate" => Self::Operate;
}

const ROLE: Kind = Kind::Scalar(&Scalar::new::<Role>("`read` or `operate`", Json::Words(&["read", "operate"]), "read"));

pub(in crate::config) static TABLE: Table = Table::new(
    "admin.tokens",
    "A bearer token of the admin door. As soon as one has the role `read`, looking over TCP needs a token too.",
    &[
        Key::new("name", NAME, "Whose it is; stands in the log of changes.").required().eg("grafana"),
        Key::new("role", ROLE, "`read`: looks; `operate`: also sees the configuration and changes something.").required(),
        Key::new("token", SECRET, "The token. One that expands to nothing lets nobody in.").eg("\"${GRAFANA_TOKEN:-}\""),
    ],
);

/// The name of `admin.token`.
const ADMIN: &str = "admin";

/// The tokens that let somebody in: `admin.token`, and those of the list.
pub(super) fn build(build: &mut Build<'_>, one: Option<&Secret>, written: Items<Written>) -> Vec<Token> {
    let mut tokens: Vec<Token> =
        one.into_iter().map(|token| Token { name: ADMIN.into(), role: Role::Operate, token: token.clone() }).collect();
    let mut names: BTreeSet<String> = BTreeSet::from([ADMIN.to_owned()]);
    for (nth, row) in written.into_iter().enumerate() {
        let path = format!("admin.tokens[{nth}]");
        let Some(Written { name: Some(name), role: Some(role), token }) = row else { continue };
        let name = name.0.0;
        if !names.insert(name.clone()) {
            build.fault(
                build.seen.value(&format!("{path}.name")),
                format!("`{name}` is the name of another token; the log must tell them apart"),
            );
        }
        let Some(token) = token else {
            if !build.seen.broken(&path) {
                build.note(build.seen.value(&path), format!("the token `{name}` is empty: it lets nobody in"));
            }
            continue;
        };
        if tokens.iter().any(|known| known.token == token.0) {
            build.fault(build.seen.value(&format!("{path}.token")), "another name has the same token; the log must tell them apart");
        }
        tokens.push(Token { name: name.into(), role: role.0, token: token.0 });
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{IN, bad, good};

    fn tokens(list: &str) -> String {
        format!("{IN}admin: {{token: a-token, tokens: [{list}]}}\n")
    }

    #[test]
    fn each_token_has_a_name_and_a_role_and_an_empty_one_lets_nobody_in() {
        let config = good(&tokens("{name: ci, role: operate, token: b}, {name: eye, role: read, token: '${EMPTY}'}"));
        let all: Vec<(&str, Role)> = config.admin.tokens.iter().map(|token| (&*token.name, token.role)).collect();
        assert_eq!(all, [("admin", Role::Operate), ("ci", Role::Operate)]);
        assert!(!format!("{config:?}").contains("a-token"));
    }

    #[test]
    fn the_log_can_tell_tokens_apart() {
        for (list, part) in [
            ("{name: ci, role: read, token: b}, {name: ci, role: operate, token: c}", "`ci` is the name of another token"),
            ("{name: admin, role: read, token: b}", "`admin` is the name of another token"),
            ("{name: ci, role: read, token: a-token}", "another name has the same token"),
            ("{name: ci, role: root, token: b}", "root"),
            ("{name: ci, token: b}", "role"),
        ] {
            let said = bad(&tokens(list));
            assert!(said.len() == 1 && said[0].contains(part), "{list}: {said:?}");
        }
    }
}
