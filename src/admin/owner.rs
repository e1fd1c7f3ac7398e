//! The owner of a socket. Commands go to a proxy of the same user, or of root; a socket that another user has put in its place is not used.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt},
    path::Path,
};

/// Why a socket or its directory is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// It belongs to another user.
    #[error("{what} belongs to user {uid}, and this is user {own}; run it as that user")]
    Owner {
        /// The socket, its directory, or the process that listens.
        what: String,
        /// Its owner.
        uid: u32,
        /// This process's user.
        own: u32,
    },
    /// Other users may change a directory that should be private.
    #[error("{0} can be used by others (mode {1:o}); it must be 0700")]
    Open(String, u32),
}

/// The user of this process.
pub(super) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Checks that `uid`, the owner of `what`, is this user or root: root can do everything anyway.
pub(super) fn trust(what: impl FnOnce() -> String, uid: u32) -> Result<(), Distrust> {
    let own = own_uid();
    if uid == own || uid == 0 { Ok(()) } else { Err(Distrust::Owner { what: what(), uid, own }) }
}

/// Checks the socket at `path` and its directory.
pub(super) fn trust_socket(path: &Path) -> Result<(), Distrust> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A missing file passes: the connection attempt reports it.
    for (place, is_right) in [(parent, fs::FileType::is_dir as fn(&fs::FileType) -> bool), (path, fs::FileType::is_socket)] {
        if let Ok(meta) = fs::metadata(place)
            && is_right(&meta.file_type())
        {
            trust(|| place.display().to_string(), meta.uid())?;
        }
    }
    Ok(())
}

/// Makes a directory for this user alone, or checks an existing one.
pub(super) fn make_private(dir: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    // A link may lead to a place of another user's choice.
    let meta = fs::symlink_metadata(dir)?;
    let shown = dir.display().to_string();
    let (own, uid, mode) = (own_uid(), meta.uid(), meta.mode() & 0o777);
    let distrust = match () {
        () if !meta.is_dir() => return Err(io::Error::other(format!("{shown} is not a directory"))),
        () if uid != own => Distrust::Owner { what: shown, uid, own },
        () if mode & 0o077 != 0 => Distrust::Open(shown, mode),
        () => return Ok(()),
    };
    Err(io::Error::other(distrust))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn a_private_directory_is_made_or_found_as_it_must_be() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("mine");
        make_private(&dir).expect("made");
        assert_eq!(fs::metadata(&dir).expect("there").mode() & 0o777, 0o700);
        make_private(&dir).expect("found");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("set");
        assert!(make_private(&dir).expect_err("others may look").to_string().contains("755"));
        let link = home.path().join("link");
        symlink(home.path(), &link).expect("linked");
        assert!(make_private(&link).expect_err("a link").to_string().contains("not a directory"));
        fs::write(home.path().join("file"), "").expect("written");
        assert!(make_private(&home.path().join("file")).is_err());
    }

    #[test]
    fn a_socket_or_directory_of_another_user_is_not_trusted() {
        if own_uid() != 0 {
            eprintln!("SKIPPED: only root can give a file to another user");
            return;
        }
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("binds");
        assert_eq!(trust_socket(&path), Ok(()));
        let dir = home.path().join("d");
        make_private(&dir).expect("made");
        chown(&path, Some(65_534), None).expect("given");
        chown(&dir, Some(65_534), None).expect("given");
        assert!(matches!(trust_socket(&path), Err(Distrust::Owner { uid: 65_534, own: 0, .. })));
        assert!(matches!(trust_socket(&dir.join("s")), Err(Distrust::Owner { uid: 65_534, .. })), "its directory is another's");
        assert!(make_private(&dir).is_err());
    }
}
