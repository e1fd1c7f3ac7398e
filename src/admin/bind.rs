//! The listeners of the admin door. The unix socket is never open to other users, not even for a moment: it is made in a
//! private directory, closed to all but its owner, and then moved to its place.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener};

use super::owner::make_private;
use crate::{clock::unguessable_id, config};

/// Listeners that are bound and not yet served.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Health, metrics, API.
    pub admin: Option<TcpListener>,
    /// `/live`, `/ready`, `/metrics` alone.
    pub probes: Option<TcpListener>,
    /// The command line's socket.
    pub socket: Option<Socket>,
    /// Why the configured socket could not be bound: the proxy serves all the same.
    pub no_socket: Option<BindError>,
}

/// The unix socket, bound under its name.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
}

/// Removes the socket's file when dropped, if the file is still the same one.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub(super) path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// Why a listener could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP address.
    #[error("{what} cannot listen on {address}: {error}")]
    Tcp {
        /// The key in `proxy.yaml`.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Another proxy answers on the socket.
    #[error("admin.socket: a running proxy already answers on {0}; give this one another path")]
    InUse(PathBuf),
    /// The path exists and is not a socket.
    #[error("admin.socket: {0} exists and is not a socket; it is left alone")]
    NotASocket(PathBuf),
    /// The directory is missing, not writable, or another user's.
    #[error("admin.socket: {path} cannot be made: {error} (the directory must exist, be writable, and be this user's)")]
    Socket {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Listeners {
    /// Binds the configured listeners on the current runtime.
    pub async fn bind(config: &config::Admin) -> Result<Self, BindError> {
        let (socket, no_socket) = match config.socket.as_deref().map(|path| socket(path, config.socket_is_usual)) {
            None => (None, None),
            Some(Ok(socket)) => (Some(socket), None),
            Some(Err(why)) => (None, Some(why)),
        };
        Ok(Self { admin: tcp("admin.listen", config.listen).await?, probes: tcp("admin.probes", config.probes).await?, socket, no_socket })
    }
}

async fn tcp(what: &'static str, address: Option<SocketAddr>) -> Result<Option<TcpListener>, BindError> {
    let Some(address) = address else { return Ok(None) };
    TcpListener::bind(address).await.map(Some).map_err(|error| BindError::Tcp { what, address, error })
}

/// The socket at `path`; `is_usual`: its directory belongs to this user alone, and is made if missing.
fn socket(path: &Path, is_usual: bool) -> Result<Socket, BindError> {
    if let (true, Some(dir)) = (is_usual, path.parent()) {
        make_private(dir).map_err(|error| BindError::Socket { path: path.to_owned(), error })?;
    }
    Socket::bind(path)
}

impl Socket {
    /// Binds `path` for its owner alone (0600). Replaces a socket on which no process answers.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |error| BindError::Socket { path: path.to_owned(), error };
        match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(BindError::InUse(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // a short name: a socket's whole path must fit into 108 bytes (unix(7))
        let private = parent.join(format!(".{:08x}", unguessable_id() as u32));
        fs::DirBuilder::new().mode(0o700).create(&private).map_err(failed)?;
        let made = Self::make(&private.join("s"), path);
        let _ = fs::remove_file(private.join("s"));
        let _ = fs::remove_dir(&private);
        made.map_err(failed)
    }

    fn make(private: &Path, path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(private)?;
        fs::set_permissions(private, fs::Permissions::from_mode(0o600))?;
        let identity = identity(private)?;
        fs::rename(private, path)?;
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), identity } })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
