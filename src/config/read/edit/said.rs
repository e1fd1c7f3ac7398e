//! Edits as they are asked for: by path, or by the names of routes, policies and limits.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::{EditError, append, nowhere, remove, set, value};
use crate::config::{Config, Limit, Route};

/// One edit of a configuration.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Edit {
    /// Sets a value.
    Set {
        /// Its path.
        path: String,
        /// The value.
        value: Value,
    },
    /// Removes a value with its key.
    Remove {
        /// Its path.
        path: String,
    },
    /// Adds an item to a list.
    Append {
        /// The list's path.
        path: String,
        /// The item.
        value: Value,
        /// The place of the item; `None`: the end.
        at: Option<usize>,
    },
    /// Sets the mode of a policy.
    Mode {
        /// `inbound` or `outbound`.
        door: Door,
        /// The route's name; `None`: the defaults of the door, or for a limit the door's own limits.
        route: Option<String>,
        /// The policy's key.
        policy: String,
        /// `enforce`, `observe` or `off`.
        mode: String,
        /// The limit's name, for the policy `limits`.
        limit: Option<String>,
    },
    /// Moves a limit.
    Limit(Box<Moved>),
}

/// A limit that moves.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// `inbound` or `outbound`.
    pub door: Door,
    /// The route's name; `None`: the door's own limits.
    pub route: Option<String>,
    /// The limit's name.
    pub limit: String,
    /// The new amount, in the unit that the limit counts.
    pub requests: Option<Value>,
    /// As `requests`.
    pub tokens: Option<Value>,
    /// As `requests`.
    pub usd: Option<Value>,
    /// As `requests`.
    pub concurrency: Option<Value>,
    /// The new window.
    pub window: Option<String>,
}

/// A door, as an edit names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// In front of the app.
    Inbound,
    /// In front of the providers.
    Outbound,
}

impl Door {
    /// Its key in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    /// The routes of the door, in the order of the file.
    pub fn routes(self, config: &Config) -> &[Route] {
        let routes = match self {
            Self::Inbound => config.inbound.as_ref().map(|door| &door.routes),
            Self::Outbound => config.outbound.as_ref().map(|door| &door.routes),
        };
        routes.map(Vec::as_slice).unwrap_or_default()
    }
}

/// What the edit does, without values: a value may be a secret, and the log keeps this text.
impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = |route: &Option<String>| route.clone().unwrap_or_else(|| "(the door)".to_owned());
        match self {
            Self::Set { path, .. } => write!(f, "set {path}"),
            Self::Remove { path } => write!(f, "remove {path}"),
            Self::Append { path, .. } => write!(f, "append to {path}"),
            Self::Mode { door, route: at, policy, mode, limit } => {
                let limit = limit.as_deref().map(|limit| format!(" {limit}")).unwrap_or_default();
                write!(f, "{policy}{limit} of {} {}: {mode}", door.word(), route(at))
            }
            Self::Limit(moved) => write!(f, "limit {} of {} {}", moved.limit, moved.door.word(), route(&moved.route)),
        }
    }
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Edit {
    /// The text after all `edits`. `meaning` gives the meaning of a text, for the names in it; `None`: the text has mistakes.
    ///
    /// # Errors
    /// The first edit that cannot be made, with its place in the list. Then nothing is changed.
    pub fn all(edits: &[Self], text: &str, meaning: &dyn Fn(&str) -> Option<Config>) -> Result<String, String> {
        edits.iter().enumerate().try_fold(text.to_owned(), |text, (nth, edit)| {
            // A byte order mark is no part of the tree.
            let (mark, body) = text.strip_prefix('\u{FEFF}').map_or(("", &*text), |body| ("\u{FEFF}", body));
            let done = edit.apply(body, meaning).map_err(|why| format!("edits[{nth}] ({edit}): {why}"))?;
            Ok(format!("{mark}{done}"))
        })
    }

    fn apply(&self, text: &str, meaning: &dyn Fn(&str) -> Option<Config>) -> Result<String, EditError> {
        let named = || meaning(text).ok_or_else(|| nowhere("the file has mistakes: a name cannot be found in it; use a path"));
        match self {
            Self::Set { path, value } => set(text, path, value),
            Self::Remove { path } => remove(text, path),
            Self::Append { path, value, at } => append(text, path, value, *at),
            Self::Mode { door, route, policy, mode, limit } => {
                if !["enforce", "observe", "off"].contains(&mode.as_str()) {
                    return Err(nowhere(format!("`{mode}` is no mode; write enforce, observe or off")));
                }
                let at = match (policy.as_str(), limit) {
                    ("limits", Some(limit)) => limit_path(text, &named()?, *door, route.as_deref(), limit)?,
                    ("limits", None) => return Err(nowhere("say which limit: {\"limit\": \"NAME\"}")),
                    _ => policy_path(text, &named()?, *door, route.as_deref(), policy)?,
                };
                set(text, &format!("{at}.mode"), &Value::from(mode.as_str()))
            }
            Self::Limit(moved) => moved.apply(text, &named()?),
        }
    }
}

impl Moved {
    fn apply(&self, text: &str, config: &Config) -> Result<String, EditError> {
        let at = limit_path(text, config, self.door, self.route.as_deref(), &self.limit)?;
        let amounts = [("requests", &self.requests), ("tokens", &self.tokens), ("usd", &self.usd), ("concurrency", &self.concurrency)];
        let mut text = text.to_owned();
        for (unit, amount) in amounts.into_iter().filter_map(|(unit, amount)| Some((unit, amount.as_ref()?))) {
            if value(&text, &format!("{at}.{unit}")).is_none() {
                return Err(nowhere(format!("the limit `{}` does not count {unit}", self.limit)));
            }
            text = set(&text, &format!("{at}.{unit}"), amount)?;
        }
        match &self.window {
            Some(window) => set(&text, &format!("{at}.window"), &Value::from(window.as_str())),
            None => Ok(text),
        }
    }
}

/// The name of what no route takes.
const FALLTHROUGH: &str = "default";

/// The path of a route's block.
fn route_path(config: &Config, door: Door, route: &str) -> Result<(usize, String), EditError> {
    let routes = door.routes(config);
    let at = routes.iter().position(|known| *known.name == *route).ok_or_else(|| {
        let names: Vec<&str> = routes.iter().map(|route| &*route.name).collect();
        nowhere(format!(
            "{} has no route `{route}`; it has {}",
            door.word(),
            if names.is_empty() { "none".into() } else { names.join(", ") }
        ))
    })?;
    Ok((at, format!("{}.routes[{at}]", door.word())))
}

/// The path of a policy's block: of a route's own block, or of the door's defaults.
fn policy_path(text: &str, config: &Config, door: Door, route: Option<&str>, policy: &str) -> Result<String, EditError> {
    let defaults = format!("{}.defaults.{policy}", door.word());
    // What no route takes has the policies of the defaults, and this name in /api/routes.
    let route = route.filter(|route| *route != FALLTHROUGH || door.routes(config).iter().any(|known| *known.name == **route));
    let own = match route {
        None => defaults.clone(),
        Some(route) => format!("{}.{policy}", route_path(config, door, route)?.1),
    };
    if value(text, &own).is_some() {
        return Ok(own);
    }
    if route.is_some() && value(text, &defaults).is_some() {
        return Err(nowhere(format!(
            "the route has its `{policy}` from `{defaults}`, as other routes have; leave out the route to change it for all, or set `{own}`"
        )));
    }
    Err(nowhere(format!("`{own}` is not written; `set` it first")))
}

/// The path of a limit's block.
fn limit_path(text: &str, config: &Config, door: Door, route: Option<&str>, limit: &str) -> Result<String, EditError> {
    let (list, limits) = match route {
        None => {
            let limits = match door {
                Door::Inbound => config.inbound.as_ref().map(|door| &door.limits),
                Door::Outbound => config.outbound.as_ref().map(|door| &door.limits),
            };
            (format!("{}.limits", door.word()), limits.map(Vec::as_slice).unwrap_or_default())
        }
        Some(route) => {
            let (at, path) = route_path(config, door, route)?;
            (format!("{path}.limits"), &*door.routes(config)[at].policies.limits)
        }
    };
    match value(text, &list) {
        None => Err(nowhere(format!("`{list}` is not written"))),
        Some(Value::Array(items)) => {
            let by_name = items.iter().position(|item| item["name"] == limit);
            // A limit without a name has one that is made from its terms. A limit that is off has no meaning, and no place among these.
            let by_terms = || limits.iter().position(|known| *known.name == *limit).filter(|_| limits.len() == items.len());
            let at = by_name.or_else(by_terms);
            at.map(|at| format!("{list}[{at}]"))
                .ok_or_else(|| nowhere(format!("`{list}` has no limit `{limit}`; it has {}", names(limits))))
        }
        Some(one) if one["name"] == limit || limits.iter().any(|known| *known.name == *limit) => Ok(list),
        Some(_) => Err(nowhere(format!("`{list}` has no limit `{limit}`; it has {}", names(limits)))),
    }
}

fn names(limits: &[Limit]) -> String {
    limits.iter().map(|limit| format!("`{}`", limit.name)).collect::<Vec<_>>().join(", ")
}
