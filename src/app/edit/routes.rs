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
///
/// Whoever made the edits counts on new routes at the end: later edits that name a route by its number mean the route that had it there.
pub(super) fn placed(edits: &[Edit], meaning: &dyn Fn(&[Edit]) -> Option<Config>) -> Vec<Edit> {
    let mut out: Vec<Edit> = Vec::with_capacity(edits.len());
    let mut lists = [Door::Inbound, Door::Outbound].map(|door| List { door, path: format!("{}.routes", door.word()), places: None });
    for edit in edits {
        let list = lists.iter_mut().find(|list| path_of(edit).is_some_and(|path| list.follows(path).is_some()));
        let Some(list) = list else {
            out.push(edit.clone());
            continue;
        };
        out.push(list.translated(edit));
        let is_new = matches!(edit, Edit::Append { path, at: None, .. } if *path == list.path);
        let config = if is_new { meaning(&out) } else { None };
        if let Some(config) = config {
            let rows = matches(list.door.routes(&config));
            let place = cover::place_of_last(&rows);
            if let (Some(place), Some(Edit::Append { at, .. })) = (place, out.last_mut()) {
                *at = Some(place);
                list.moved(rows.len(), place);
                continue;
            }
        }
        list.follow(edit);
    }
    out
}

/// The path of an edit that has one.
fn path_of(edit: &Edit) -> Option<&str> {
    match edit {
        Edit::Set { path, .. } | Edit::Remove { path } | Edit::Append { path, .. } => Some(path),
        Edit::Mode { .. } | Edit::Limit(_) => None,
    }
}

/// The routes of a door, as whoever made the edits counts them.
struct List {
    door: Door,
    path: String,
    /// The true place of each route, by the place that it is thought to have; `None`: they are the same.
    places: Option<Vec<usize>>,
}

impl List {
    /// What follows the list's own path in `path`.
    fn follows<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(&*self.path).filter(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
    }

    /// The number of the route that a path names, and what follows it.
    fn number<'p>(&self, path: &'p str) -> Option<(usize, &'p str)> {
        let (number, rest) = self.follows(path)?.strip_prefix('[')?.split_once(']')?;
        Some((number.trim().parse().ok()?, rest))
    }

    /// The edit, by the true places.
    fn translated(&self, edit: &Edit) -> Edit {
        let Some(places) = &self.places else { return edit.clone() };
        let mut edit = edit.clone();
        match &mut edit {
            Edit::Append { path, at: Some(at), .. } if *path == self.path => *at = places.get(*at).copied().unwrap_or(*at),
            Edit::Set { path, .. } | Edit::Remove { path } | Edit::Append { path, .. } => {
                let place = self.number(path).and_then(|(number, rest)| Some(format!("{}[{}]{rest}", self.path, places.get(number)?)));
                path.clone_from(&place.unwrap_or_else(|| path.clone()));
            }
            Edit::Mode { .. } | Edit::Limit(_) => {}
        }
        edit
    }

    /// The last of `len` routes has moved to `place`.
    fn moved(&mut self, len: usize, place: usize) {
        let places = self.places.get_or_insert_with(|| (0..len - 1).collect());
        places.iter_mut().filter(|at| **at >= place).for_each(|at| *at += 1);
        places.push(place);
    }

    /// The edit is made as it stands.
    fn follow(&mut self, edit: &Edit) {
        let Some(places) = &mut self.places else { return };
        match edit {
            Edit::Append { path, at, .. } if *path == self.path => {
                let (thought, len) = (at.unwrap_or(places.len()).min(places.len()), places.len());
                let place = places.get(thought).copied().unwrap_or(len);
                places.iter_mut().filter(|at| **at >= place).for_each(|at| *at += 1);
                places.insert(thought, place);
            }
            Edit::Set { path, .. } | Edit::Remove { path } if *path == self.path => self.places = None,
            Edit::Remove { path } => {
                let Some((number, "")) = self.number(path) else { return };
                let Some(places) = self.places.as_mut().filter(|places| number < places.len()) else { return };
                let gone = places.remove(number);
                places.iter_mut().filter(|at| **at > gone).for_each(|at| *at -= 1);
            }
            _ => {}
        }
    }
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::read;

    const FILE: &str = "inbound:\n  app: http://127.0.0.1:3000\n  routes:\n    \
                        - {name: a, match: {path: /a}}\n    \
                        - {name: wide, match: {methods: [GET, PUT, POST]}}\n    \
                        - {name: last, match: {path: /z/**}}\n";

    /// The names of the routes after these edits, each with its queue, which the edits set.
    fn after(edits: &Value) -> Vec<String> {
        let edits: Vec<Edit> = serde_json::from_value(edits.clone()).expect("edits");
        let meaning = |text: &str| read::parse(text, "proxy.yaml", &Default::default(), &|_| None).ok();
        let text = |edits: &[Edit]| Edit::all(edits, FILE, &meaning).expect("can be made");
        let placed = placed(&edits, &|edits| meaning(&text(edits)));
        let config = meaning(&text(&placed)).expect("no mistakes");
        let said = |route: &Route| {
            let cut = route.policies.timeouts.as_ref().and_then(|timeouts| timeouts.total);
            format!("{}{}", route.name, cut.map_or(String::new(), |cut| format!("={}", cut.as_secs())))
        };
        Door::Inbound.routes(&config).iter().map(said).collect()
    }

    fn new(name: &str, method: &str) -> Value {
        json!({"op": "append", "path": "inbound.routes", "value": {"name": name, "match": {"methods": [method]}}})
    }

    fn total(route: usize, seconds: u64) -> Value {
        json!({"op": "set", "path": format!("inbound.routes[{route}].timeouts"), "value": {"total": format!("{seconds}s")}})
    }

    #[test]
    fn an_edit_by_number_means_the_route_that_had_it_where_the_new_one_was_thought_to_stand() {
        assert_eq!(after(&json!([new("n", "GET")])), ["a", "n", "wide", "last"], "it has to be asked before `wide`");
        let edits = json!([new("n", "GET"), total(0, 10), total(1, 11), total(2, 12), total(3, 13)]);
        assert_eq!(after(&edits), ["a=10", "n=13", "wide=11", "last=12"]);
        let edits = json!([new("n", "GET"), new("m", "PUT"), total(1, 11), total(3, 13), total(4, 14)]);
        assert_eq!(after(&edits), ["a", "n=13", "m=14", "wide=11", "last"]);
        let gone = json!({"op": "remove", "path": "inbound.routes[0]"});
        assert_eq!(after(&json!([new("n", "GET"), gone, total(0, 11), total(2, 13)])), ["n=13", "wide=11", "last"]);
        let before = json!({"op": "append", "path": "inbound.routes", "at": 2, "value": {"name": "k", "match": {"path": "/k"}}});
        let edits = json!([new("n", "GET"), before, total(2, 12), total(3, 13), total(4, 14)]);
        assert_eq!(after(&edits), ["a", "n=14", "wide", "k=12", "last=13"]);
        let limit = json!({"op": "append", "path": "inbound.routes[1].limits", "value": {"key": "caller", "requests": 1, "window": "1m"}});
        assert_eq!(after(&json!([new("n", "GET"), limit])), ["a", "n", "wide", "last"]);
    }
}
