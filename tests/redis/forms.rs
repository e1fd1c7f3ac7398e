//! Redis in the forms it is run in: behind Sentinels, as a Cluster, over TLS. All on loopback, each test its own.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use outrigger::clock::Instant;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::server::{Server, free_port};

const PATIENCE: Duration = Duration::from_secs(60);

/// A master, a replica of it, and three Sentinels that watch them.
pub struct Sentinels {
    pub nodes: Vec<Option<Server>>,
    sentinels: Vec<Running>,
    ports: Vec<u16>,
    _dir: tempfile::TempDir,
}

impl Sentinels {
    pub fn start() -> Option<Self> {
        let auth = ["--requirepass", "pw", "--masterauth", "pw"];
        let master = Server::start_with(free_port(), &auth)?;
        let of = master.port.to_string();
        let replica = Server::start_with(free_port(), &[&auth[..], &["--replicaof", "127.0.0.1", &of]].concat())?;
        let dir = tempfile::tempdir().expect("a directory");
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let sentinels = ports
            .iter()
            .map(|port| {
                let file = dir.path().join(format!("{port}.conf"));
                let text = format!(
                    "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {of} 2\nsentinel auth-pass main pw\n\
                     sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n",
                    dir.path().display()
                );
                std::fs::write(&file, text).expect("written");
                Running::start("redis-server", &[&file.display().to_string(), "--sentinel"])
            })
            .collect();
        let this = Self { nodes: vec![Some(master), Some(replica)], sentinels, ports, _dir: dir };
        wait("the Sentinels know each other and the replica", || {
            this.ports.iter().all(|port| {
                let told = cli(*port, &["SENTINEL", "MASTER", "main"]);
                let field = |name: &str| told.lines().skip_while(|line| *line != name).nth(1).unwrap_or_default().to_owned();
                field("num-slaves") == "1" && field("num-other-sentinels") == "2"
            })
        });
        Some(this)
    }

    pub fn url(&self) -> String {
        let [first, others @ ..] = &self.ports[..] else { unreachable!("three") };
        let others: String = others.iter().map(|port| format!("&node=127.0.0.1:{port}")).collect();
        format!("redis-sentinel://:pw@127.0.0.1:{first}?sentinelServiceName=main{others}")
    }

    /// The master dies; the replica will be made master.
    pub fn kill_master(&mut self) {
        drop(self.nodes[0].take().expect("alive"));
    }

    /// One of the Sentinels dies, too; two are enough.
    pub fn kill_sentinel(&mut self) {
        drop(self.sentinels.remove(0));
    }
}

/// Three masters that share the slots, with a replica each.
pub struct Cluster {
    pub nodes: Vec<Option<Server>>,
}

impl Cluster {
    pub fn start(more: &[&str]) -> Option<Self> {
        let mut nodes = Vec::new();
        for _ in 0..6 {
            let port = cluster_port();
            let all =
                [&["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-announce-ip", "127.0.0.1"], more].concat();
            nodes.push(Some(Server::start_with(port, &all)?));
        }
        let this = Self { nodes };
        let ports = this.ports();
        wait("the nodes answer", || ports.iter().all(|port| cli(*port, &["PING"]).contains("PONG")));
        let addresses: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .expect("redis-cli");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        wait("the cluster is whole and its replicas follow", || {
            ports.iter().all(|port| {
                cli(*port, &["CLUSTER", "INFO"]).contains("cluster_state:ok")
                    && cli(*port, &["INFO", "replication"])
                        .lines()
                        .any(|line| ["master_link_status:up", "connected_slaves:1"].contains(&line.trim()))
            })
        });
        Some(this)
    }

    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().flatten().map(|node| node.port).collect()
    }

    pub fn url(&self) -> String {
        let [first, others @ ..] = &self.ports()[..] else { unreachable!("six") };
        let others: Vec<String> = others.iter().map(|port| format!("node=127.0.0.1:{port}")).collect();
        format!("redis-cluster://127.0.0.1:{first}?{}", others.join("&"))
    }

    /// The master that holds the limits and the journal of namespace `test` dies.
    pub fn kill_the_one_with_the_limits(&mut self) {
        let owner = |node: &Option<Server>| node.as_ref().is_some_and(|node| cli(node.port, &["EXISTS", "{test}:secret"]).trim() == "1");
        let at = self.nodes.iter().position(owner).expect("a node owns the slot");
        drop(self.nodes[at].take());
    }

    /// How many keys of the cache each master holds.
    pub fn cached_by_node(&self) -> Vec<usize> {
        let is_master = |port: &u16| cli(*port, &["ROLE"]).starts_with("master");
        let count = |port: u16| cli(port, &["--raw", "KEYS", "test:cache:1:*"]).lines().filter(|line| !line.is_empty()).count();
        self.ports().into_iter().filter(is_master).map(count).collect()
    }
}

/// An authority with a certificate for a server at 127.0.0.1 and one for a client.
pub struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    pub fn make() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of the test");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        write("ca.crt", &authority.pem());
        for name in ["server", "client"] {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("names");
            let signed = params.signed_by(&key, &authority).expect("signed");
            write(&format!("{name}.crt"), &signed.pem());
            write(&format!("{name}.key"), &key.serialize_pem());
        }
        Self { dir }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A Redis that speaks TLS alone. `clients`: `yes` if a client has to show a certificate.
    pub fn server(&self, port: u16, clients: &str, more: &[&str]) -> Option<Server> {
        let [ca, cert, key] = ["ca.crt", "server.crt", "server.key"].map(|name| self.file(name).display().to_string());
        let tls = port.to_string();
        let all = [
            "--port",
            "0",
            "--tls-port",
            &tls,
            "--tls-ca-cert-file",
            &ca,
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-auth-clients",
            clients,
        ];
        Server::start_with(port, &[&all[..], more].concat())
    }

    /// The lines of `store` that name this authority, and a client certificate if one is wanted.
    pub fn yaml(&self, with_client: bool) -> String {
        let shown = |name| Path::display(&self.file(name)).to_string();
        let client = if with_client { format!(", cert: {}, key: {}", shown("client.crt"), shown("client.key")) } else { String::new() };
        format!("redis_tls: {{ca: {}{client}}}", shown("ca.crt"))
    }
}

/// A process that ends with its test.
struct Running(Child);

impl Running {
    fn start(program: &str, line: &[&str]) -> Self {
        Self(Command::new(program).args(line).stdout(Stdio::null()).spawn().expect(program))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What redis-cli prints.
pub fn cli(port: u16, line: &[&str]) -> String {
    let out = Command::new("redis-cli").args(["-p", &port.to_string()]).args(line).output().expect("redis-cli");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A cluster's node listens on a second port, 10,000 above.
fn cluster_port() -> u16 {
    loop {
        let port = free_port();
        if port.checked_add(10_000).is_some_and(|bus| TcpListener::bind(("127.0.0.1", bus)).is_ok()) {
            return port;
        }
    }
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}: not so");
        std::thread::yield_now();
    }
}
