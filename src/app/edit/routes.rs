//! Routes that a change adds: the place at which they can match, and the routes in their way.

use serde_json::{Value, json};

use crate::{
    config::{
        Config, Match, Route,
        read::edit::{Door, Edit},
    },
    route::cover,
};

/// The edits, with a place for each route that would stand behind an equal one that takes all of its requests. `meaning` gives the
/// meaning of the file after some of the edits; `None`: it has mistakes.
pub(super) fn placed(edits: &[Edit], meaning: &dyn Fn(&[Edit]) -> Option<Config>) -> Vec<Edit> {
    let mut out: Vec<Edit> = Vec::with_capacity(edits.len());
    for edit in edits {
        out.push(edit.clone());
        let Edit::Append { path, at: None, .. } = edit else { continue };
        let Some(door) = [Door::Inbound, Door::Outbound].into_iter().find(|door| *path == format!("{}.routes", door.word())) else {
            continue;
        };
        let place = meaning(&out).and_then(|config| cover::place_of_last(&matches(door.routes(&config))));
        if let (Some(place), Some(Edit::Append { at, .. })) = (place, out.last_mut()) {
            *at = Some(place);
        }
    }
    out
}

/// What stands in the way of routes that `new` has and `old` has not, and routes that never answer because of them; each in a sentence.
pub(super) fn in_the_way(old: Option<&Config>, new: &Config) -> Vec<Value> {
    let mut out = Vec::new();
    for door in [Door::Inbound, Door::Outbound] {
        let routes = door.routes(new);
        let known = old.map(|config| door.routes(config)).unwrap_or_default();
        let is_new = |route: &Route| known.iter().all(|known| known.name != route.name);
        let rows = matches(routes);
        let mut say = |at: usize, by: usize, message: String| {
            out.push(json!({"door": door.word(), "route": &*routes[at].name, "taken_by": &*routes[by].name, "message": message}));
        };
        for (at, route) in routes.iter().enumerate() {
            if let Some(by) = cover::hidden_by(&rows, at) {
                if is_new(route) || is_new(&routes[by]) {
                    let (name, other) = (&route.name, &routes[by].name);
                    say(at, by, format!("`{name}` never answers: `{other}` is asked first and takes all of its requests"));
                }
            } else if is_new(route) {
                for (by, why) in cover::crossed_by(&rows, at) {
                    let (name, other) = (&route.name, &routes[by].name);
                    let why =
                        why.map_or_else(|| "it stands earlier in the file".to_owned(), |part| format!("its `{part}` is more specific"));
                    say(at, by, format!("`{other}` takes the requests that match both it and `{name}`: {why}"));
                }
            }
        }
    }
    out
}

fn matches(routes: &[Route]) -> Vec<&Match> {
    routes.iter().map(|route| &route.matches).collect()
}
