//! Writing a file in the place of another: whole or not at all, with its owner and its mode.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::Path,
};

use crate::clock::unguessable_id;

/// Puts `text` in the place of the file at `path`. A link stays a link: the file behind it is replaced. Blocks.
///
/// # Errors
/// Why the file cannot be replaced, and what would help. The file is then as it was.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), String> {
    let shown = path.display();
    let real = path.canonicalize().map_err(|error| format!("{shown} cannot be found: {error}"))?;
    let dir = real.parent().unwrap_or(Path::new("/")).to_owned();
    let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let part = dir.join(format!(".{name}.{:08x}", unguessable_id() as u32));
    let done = write(&real, &part, text).and_then(|()| {
        fs::rename(&part, &real)?;
        // The rename itself must outlive a power cut.
        fs::File::open(&dir)?.sync_all()
    });
    done.map_err(|error| {
        let _ = fs::remove_file(&part);
        let help = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => "it is on a read-only file system, as a ConfigMap is; change it at its source",
            io::ErrorKind::ResourceBusy => "it is mounted by itself; mount its directory instead, or change it at its source",
            io::ErrorKind::PermissionDenied => "its directory must be writable by the proxy, and the file the proxy's own",
            io::ErrorKind::StorageFull => "the disk is full",
            _ => "it is as it was",
        };
        format!("{} cannot be written: {error}; {help}", real.display())
    })
}

/// Writes the new file beside the old one.
fn write(real: &Path, part: &Path, text: &str) -> io::Result<()> {
    let old = fs::metadata(real)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    file.write_all(text.as_bytes())?;
    let made = file.metadata()?;
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    // The mode after the owner: a change of the owner clears some of its bits.
    file.set_permissions(old.permissions())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_a_link_stays_one() {
        let home = tempfile::tempdir().expect("a directory");
        let (file, link) = (home.path().join("proxy.yaml"), home.path().join("link.yaml"));
        fs::write(&file, "old").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        symlink(&file, &link).expect("linked");
        replace(&link, "new").expect("replaced");
        assert_eq!(
            (fs::read_to_string(&file).expect("there").as_str(), fs::metadata(&file).expect("there").mode() & 0o777),
            ("new", 0o640)
        );
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 2, "nothing is left beside");
    }

    #[test]
    fn a_file_that_cannot_be_written_stays_and_says_why() {
        let why = replace(Path::new("/proc/version"), "x").expect_err("refused");
        assert!(why.contains("/proc/version cannot be written"), "{why}");
        let why = replace(Path::new("/no/such/file"), "x").expect_err("refused");
        assert!(why.contains("cannot be found"), "{why}");
    }
}
