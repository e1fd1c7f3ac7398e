//! A real redis-server of a test's own; skips loudly where there is none, fails where CI is set.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// A redis-server of our own.
pub struct Server {
    child: Child,
    dir: tempfile::TempDir,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    pub fn start() -> Option<Self> {
        Self::start_at(free_port())
    }

    pub fn start_at(port: u16) -> Option<Self> {
        Self::start_with(port, &[])
    }

    /// A cluster of one node, which owns every slot.
    pub fn cluster() -> Option<Self> {
        Self::cluster_with(&[])
    }

    pub fn cluster_with(more: &[&str]) -> Option<Self> {
        let (port, bus) = (free_port(), free_port().to_string());
        let cluster = ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1", "--cluster-port", &bus];
        let server = Self::start_with(port, &[&cluster[..], more].concat())?;
        let mut connection = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(connection) => break connection,
                Err(_) => std::thread::yield_now(),
            }
        };
        connection.write_all(b"CLUSTER ADDSLOTSRANGE 0 16383\r\n").expect("written");
        let mut answer = [0; 5];
        connection.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"+OK\r\n");
        Some(server)
    }

    pub fn start_with(port: u16, more: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let spawned = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(dir.path())
            .arg("--unixsocket")
            .arg(dir.path().join("redis.sock"))
            .args(more)
            .stdout(Stdio::null())
            .spawn();
        match spawned {
            Ok(child) => Some(Self { child, dir, port }),
            Err(error) if std::env::var_os("CI").is_some() => panic!("redis-server does not start: {error}"),
            Err(error) => {
                eprintln!("\n*** SKIPPED: redis-server does not start ({error}); install it to run this test ***\n");
                None
            }
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    }

    /// Dead at once; the port stays ours to use again.
    pub fn kill(mut self) -> u16 {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}
