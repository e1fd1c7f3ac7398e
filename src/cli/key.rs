//! `outrigger key new|list|revoke`: the keys of clients, in a file.
//!
//! The file holds hashes alone. A key is shown once, when it is made. The file is replaced as a whole: a proxy that reads it finds the
//! old keys or the new ones.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::Subcommand;
use serde_json::json;

use super::said::{Failure, Said};
use crate::{
    clock::{Clock, unguessable_id},
    config::{KeyFile, KeyRow},
    policy::auth::key,
};

/// What `key` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    act: Act,
    /// The file of the keys, as `auth.api_keys` names it.
    #[arg(long, global = true, env = "OUTRIGGER_KEYS", default_value = "keys.json")]
    file: PathBuf,
}

#[derive(Debug, Clone, Subcommand)]
enum Act {
    /// Make a key and show it, once.
    New(NewKey),
    /// Show the keys by name, never the keys themselves.
    List,
    /// Take a key out: no request gets in by it any more.
    Revoke {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Clone, clap::Args)]
struct NewKey {
    /// Its name, unique in the file.
    #[arg(long)]
    name: String,
    /// The caller who uses it, in limits, logs and books; its name, if it is left out.
    #[arg(long)]
    caller: Option<String>,
    /// The caller's plan or class.
    #[arg(long)]
    tier: Option<String>,
    /// What it may be used for; may be repeated.
    #[arg(long = "scope")]
    scopes: Vec<String>,
    /// When it ends: a time from now (`90d`) or an instant (`2027-01-31T00:00:00Z`). It does not end, if this is left out.
    #[arg(long)]
    expires: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// The file cannot be read or written, or what is asked for makes no sense.
pub fn said(args: &KeyArgs) -> Result<Said, Failure> {
    let file = &args.file;
    match &args.act {
        Act::New(new) => make(file, new, Clock::system().wall()),
        Act::List => Ok(list(read(file)?, Clock::system().wall())),
        Act::Revoke { name } => revoke(file, name),
    }
}

fn make(file: &Path, new: &NewKey, now: SystemTime) -> Result<Said, Failure> {
    let mut random = [0; 32];
    let (first, last) = random.split_at_mut(16);
    first.copy_from_slice(&unguessable_id().to_be_bytes());
    last.copy_from_slice(&unguessable_id().to_be_bytes());
    let key = key::mint(random);
    let expires = new.expires.as_deref().map(|text| end(text, now)).transpose()?;
    let row = KeyRow {
        name: new.name.clone(),
        shows: key[..KeyFile::SHOWN].to_owned(),
        sha256: key::digest(&key).iter().map(|byte| format!("{byte:02x}")).collect(),
        caller: new.caller.clone(),
        tier: new.tier.clone(),
        scopes: new.scopes.clone(),
        expires,
        created: Some(stamp(now)),
    };
    row.clone().meant()?;
    let mut held = Held::of(file)?;
    if held.keys.keys.iter().any(|other| other.name == row.name) {
        return Err(format!("`{}` has a key of the name `{}`; revoke it first, or take another name", file.display(), row.name).into());
    }
    held.keys.keys.push(row.clone());
    held.write()?;
    let text = format!("{key}\n\nThis is the key `{}`. It is shown once: `{}` holds its hash alone.\n", row.name, file.display());
    Ok(Said::new(json!({"key": key, "name": row.name, "file": file.display().to_string(), "expires": row.expires}), text))
}

fn revoke(file: &Path, name: &str) -> Result<Said, Failure> {
    let mut held = Held::of(file)?;
    let before = held.keys.keys.len();
    held.keys.keys.retain(|row| row.name != name);
    if held.keys.keys.len() == before {
        return Err(format!("`{}` has no key of the name `{name}`; `outrigger key list` shows them", file.display()).into());
    }
    held.write()?;
    Ok(Said::line(
        json!({"revoked": name}),
        format!("the key `{name}` is revoked; a running proxy knows it as soon as it has read the file again"),
    ))
}

fn list(keys: KeyFile, now: SystemTime) -> Said {
    let ended = |row: &KeyRow| row.clone().meant().is_ok_and(|(_, key)| key.expires.is_some_and(|at| now >= at));
    let mut text = String::new();
    for row in &keys.keys {
        let caller = row.caller.as_deref().unwrap_or(&row.name);
        let tier = row.tier.as_ref().map(|tier| format!(", tier {tier}")).unwrap_or_default();
        let scopes = if row.scopes.is_empty() { String::new() } else { format!(", scopes {}", row.scopes.join(" ")) };
        let expires = match &row.expires {
            Some(at) if ended(row) => format!(", ended {at}"),
            Some(at) => format!(", ends {at}"),
            None => String::new(),
        };
        text += &format!("{:<24} {}...  caller {caller}{tier}{scopes}{expires}\n", row.name, row.shows);
    }
    if keys.keys.is_empty() {
        text += "there is no key\n";
    }
    let rows = keys.keys.iter().map(|row| {
        json!({"name": row.name, "shows": row.shows, "caller": row.caller.as_ref().unwrap_or(&row.name), "tier": row.tier,
            "scopes": row.scopes, "expires": row.expires, "created": row.created, "ended": ended(row)})
    });
    Said::new(json!({"keys": rows.collect::<Vec<_>>()}), text)
}

/// The end of a key, as its file has it.
fn end(text: &str, now: SystemTime) -> Result<String, String> {
    if let Ok(within) = humantime::parse_duration(text) {
        return Ok(stamp(now + within));
    }
    match humantime::parse_rfc3339(text) {
        Ok(at) if at > now => Ok(stamp(at)),
        Ok(_) => Err(format!("`{text}` is over already")),
        Err(_) => Err(format!("`{text}` is neither a time from now, such as 90d, nor an instant, such as 2027-01-31T00:00:00Z")),
    }
}

/// A whole second, as text (RFC 3339).
fn stamp(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

fn read(file: &Path) -> Result<KeyFile, String> {
    let shown = file.display();
    match fs::read(file) {
        Ok(bytes) => KeyFile::parse(&bytes).map_err(|why| format!("`{shown}`: {why}")),
        Err(error) => Err(format!("cannot read `{shown}`: {error}")),
    }
}

/// A file of keys that nobody else changes meanwhile.
struct Held {
    keys: KeyFile,
    file: PathBuf,
    /// The file that takes its place. It is there as long as the file is held.
    next: PathBuf,
    out: fs::File,
    written: bool,
}

impl Held {
    /// Holds the file; one that is not there has no keys.
    fn of(file: &Path) -> Result<Self, String> {
        // A link stays a link: the file that it leads to is replaced.
        let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let mut next = file.clone().into_os_string();
        next.push(".next");
        let next = PathBuf::from(next);
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next);
        let out = opened.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("`{}` is there: another `outrigger key` is at work, or one was broken off; then remove that file", next.display())
            }
            _ => format!("cannot write `{}`: {error}", next.display()),
        })?;
        let mut held = Self { keys: KeyFile::default(), file, next, out, written: false };
        if let Ok(meta) = fs::metadata(&held.file) {
            held.keys = read(&held.file)?;
            // Who may read the file stays as it was: a proxy that cannot read it again would keep the old keys.
            let cannot = |error: io::Error| format!("cannot leave `{}` to its owner: {error}", held.file.display());
            let own = held.out.metadata().map_err(cannot)?;
            if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
                fchown(&held.out, Some(meta.uid()), Some(meta.gid())).map_err(cannot)?;
            }
            held.out.set_permissions(meta.permissions()).map_err(cannot)?;
        }
        Ok(held)
    }

    /// Puts the keys in the place of the old ones.
    fn write(mut self) -> Result<(), String> {
        let text = serde_json::to_string_pretty(&self.keys).map_err(|error| error.to_string())? + "\n";
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.sync_all());
        let placed = written.and_then(|()| fs::rename(&self.next, &self.file));
        self.written = placed.is_ok();
        placed.map_err(|error| format!("cannot write `{}`: {error}", self.file.display()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.written {
            let _ = fs::remove_file(&self.next);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn new(name: &str) -> NewKey {
        NewKey { name: name.into(), caller: None, tier: Some("gold".into()), scopes: vec!["read".into()], expires: Some("90d".into()) }
    }

    #[test]
    fn a_key_is_shown_once_and_its_file_lets_it_in_until_it_is_revoked() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("keys.json");
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let said = make(&file, &new("web"), now).expect("made").json.expect("JSON");
        let key = said["key"].as_str().expect("a key");
        let text = fs::read_to_string(&file).expect("written");
        assert!(key::is_whole(key) && !text.contains(key) && text.contains(&key[..KeyFile::SHOWN]), "{text}");
        assert_eq!(said["expires"], "2027-04-15T08:00:00Z");
        let (keys, wrong) = read(&file).expect("a file of keys").meant();
        let scopes: Vec<&str> = keys[&key::digest(key)].scopes.iter().map(|scope| &**scope).collect();
        assert!(wrong.is_empty() && scopes == ["read"], "{wrong:?}");
        assert!(make(&file, &new("web"), now).is_err_and(|why| format!("{why}").contains("has a key of the name `web`")));
        let other = make(&file, &new("cli"), now).expect("made").json.expect("JSON");
        assert_ne!(other["key"], said["key"]);
        let rows = list(read(&file).expect("reads"), now + Duration::from_secs(91 * 86_400)).json.expect("JSON");
        assert_eq!((rows["keys"][1]["name"].as_str(), rows["keys"][0]["ended"].as_bool()), (Some("cli"), Some(true)));
        revoke(&file, "web").expect("revoked");
        assert!(revoke(&file, "web").is_err() && read(&file).expect("reads").keys.len() == 1);
        assert_eq!(fs::read_dir(dir.path()).expect("reads").count(), 1, "nothing is left beside the file");
    }

    #[test]
    fn the_file_stays_its_owners_whoever_changes_it() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("keys.json");
        make(&file, &new("web"), UNIX_EPOCH).expect("made");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("changed");
        // Only root can give a file away; for others the owner is the same before and after.
        let _ = chown(&file, Some(65_532), Some(65_532));
        let of = |meta: fs::Metadata| (meta.uid(), meta.gid(), meta.mode());
        let before = of(fs::metadata(&file).expect("there"));
        revoke(&file, "web").expect("revoked");
        assert_eq!(of(fs::metadata(&file).expect("there")), before);
    }

    #[test]
    fn what_makes_no_sense_leaves_no_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("keys.json");
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        for (wrong, part) in [
            (NewKey { name: "a b".into(), ..new("") }, "is not a name"),
            (NewKey { scopes: vec!["a b".into()], ..new("a") }, "neither a scope nor a tier"),
            (NewKey { expires: Some("2020-01-01T00:00:00Z".into()), ..new("a") }, "is over already"),
            (NewKey { expires: Some("soon".into()), ..new("a") }, "such as 90d"),
        ] {
            let said = make(&file, &wrong, now).expect_err(part).to_string();
            assert!(said.contains(part) && !file.exists(), "{said}");
        }
        fs::write(dir.path().join("keys.json.next"), "").expect("written");
        assert!(make(&file, &new("a"), now).is_err_and(|why| why.to_string().contains("another `outrigger key` is at work")));
    }
}
