//! Filling the cache: the first worker does it, from its start until the process leaves; operators may ask for more.

use std::rc::Rc;

use http::Uri;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::{App, Phase};
use crate::{
    admin::Refused,
    config::error::Mistake,
    proxy::{self, Proxy},
};

pub use crate::proxy::warm::WAITING;

/// Fills the cache until the process leaves.
pub async fn until(mut phase: watch::Receiver<Phase>, proxy: Rc<Proxy>, wanted: mpsc::Receiver<Uri>) {
    tokio::select! {
        _ = phase.wait_for(|phase| *phase >= Phase::Leaving) => {}
        () = proxy::warm::run(proxy, wanted) => {}
    }
}

/// Queues these paths, or those of the configuration if the list is empty; all of them or none.
///
/// # Errors
/// A path is not valid, there is no path at all, or more paths than may wait.
pub fn want(app: &App, paths: &[String]) -> Result<Value, Refused> {
    let live = app.live();
    let Some(door) = &live.config.inbound else { return Err(Refused::Conflict("there is no inbound door".into())) };
    let read = |path: &String| {
        path.parse::<Uri>()
            .ok()
            .filter(|_| path.starts_with('/'))
            .ok_or_else(|| Mistake::of_value(Some(path), format!("`{path}` is not a path; write one that begins with `/`")))
    };
    let (targets, wrong): (Vec<_>, Vec<_>) = paths.iter().map(read).partition(Result::is_ok);
    if !wrong.is_empty() {
        return Err(Refused::Invalid(wrong.into_iter().filter_map(Result::err).collect()));
    }
    let targets = if paths.is_empty() { door.warm.targets.clone() } else { targets.into_iter().flatten().collect() };
    if targets.is_empty() {
        return Err(Refused::Invalid(vec![Mistake::of_value(None, "no path is named, neither here nor in `inbound.warm`")]));
    }
    let full = || Refused::Conflict(format!("{WAITING} requests wait already, at most; try again when they are done"));
    let places = app.warm.try_reserve_many(targets.len()).map_err(|_| full())?;
    let taken = targets.len();
    for (place, target) in places.zip(targets) {
        place.send(target);
    }
    Ok(json!({"queued": taken}))
}
