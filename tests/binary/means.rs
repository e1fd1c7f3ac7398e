//! What the process needs of the system and may not get: descriptors, a socket for its command line.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
};

use super::{
    QUICK,
    process::{App, Home, Proxy, Reader, get, metric, mode, outrigger, run, try_get, until},
    yaml,
};

const APPLIED: &str = "outrigger_config_reloads_total{outcome=\"applied\"}";
const NOT_ACCEPTED: &str = "outrigger_accept_errors_total{door=\"inbound\"}";

/// Starts a proxy after `limits`, a line for a shell.
fn start_after(home: &Home, limits: &str) -> Proxy {
    let mut command = Command::new("sh");
    command.env_clear().args(["-c", &format!("{limits} && exec \"$0\" run --config \"$1\"")]);
    command.arg(outrigger().get_program()).arg(home.path("proxy.yaml"));
    Proxy::start_command(command, Reader::Reads, Stdio::null())
}

#[test]
fn descriptors_are_taken_as_far_as_they_go_and_too_few_are_said() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + QUICK));
    let proxy = start_after(&home, "ulimit -Sn 128");
    let limit = metric(proxy.admin, "process_max_fds").expect("a limit");
    assert!(limit > 128.0, "the soft limit is no bound");
    assert_eq!(proxy.times_heard("file descriptors"), usize::from(limit < 8_064.0));

    let proxy = start_after(&home, "ulimit -n 256");
    assert_eq!(proxy.times_heard("the process may have 256 file descriptors"), 1);
}

#[test]
fn clients_never_get_the_last_descriptors() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + QUICK));
    let mut proxy = start_after(&home, "ulimit -n 256");
    let inbound = proxy.inbound.expect("open");
    let clients: Vec<TcpStream> = (0..400).map_while(|_| TcpStream::connect(inbound).ok()).collect();
    until("some are turned away", || metric(proxy.admin, NOT_ACCEPTED) > Some(0.0));
    // Whoever comes now is told so.
    until("a client is told", || match try_get(proxy.inbound, "/") {
        Ok(answer) => answer.status.as_u16() == 503 && answer.text().contains("file descriptors"),
        // The answer may be overtaken by the close.
        Err(_) => false,
    });
    for path in ["/live", "/ready", "/metrics"] {
        assert_eq!(get(proxy.probes, path).status.as_u16(), 200, "{path}");
    }
    assert_eq!(get(proxy.admin, "/health").status.as_u16(), 200);
    home.write(&(yaml(&app, "  server_timing: true") + QUICK));
    assert_eq!(run(&["reload", "--socket", &home.text("admin.sock")]).0, Some(0), "a reload needs files");
    assert_eq!(metric(proxy.admin, APPLIED), Some(1.0));
    // Nor does a connection to the app get one.
    let mut first = &clients[0];
    first.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    first.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    drop(clients);
    until("there is room again", || try_get(proxy.inbound, "/").is_ok_and(|answer| answer.status.as_u16() == 200));
    proxy.signal("TERM");
    proxy.wait_for("no file descriptor is left for another client");
    proxy.wait_for("draining");
    assert_eq!(proxy.exit(), 0);
    assert!(proxy.times_heard("no file descriptor is left") <= 2, "one line and a count");
}

#[test]
fn a_socket_that_cannot_be_made_is_a_warning() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "").replace("SOCKET", "/nowhere/admin.sock") + QUICK));
    let mut proxy = home.start();
    assert_eq!(proxy.times_heard("/nowhere/admin.sock cannot be made"), 1);
    assert_eq!(get(proxy.inbound, "/").status.as_u16(), 200);
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);
}

#[test]
fn the_usual_place_of_the_socket_is_private_and_both_sides_know_it() {
    let app = App::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let home = Home::new(&format!(
        "inbound: {{listen: 127.0.0.1:0, app: 'http://{}'}}\nadmin: {{listen: '{free}', probes: off}}\n{QUICK}",
        app.address
    ));
    let tmp = home.path("tmp");
    fs::create_dir(&tmp).expect("made");
    let mut command = outrigger();
    command.env("TMPDIR", &tmp).args(["run", "--config", &home.text("proxy.yaml")]);
    let mut proxy = Proxy::start_command(command, Reader::Reads, Stdio::null());
    let made: Vec<_> = fs::read_dir(&tmp).expect("there").map(|entry| entry.expect("an entry").path()).collect();
    assert!(made.len() == 1 && mode(&made[0]) == 0o700, "{made:?}");
    let name = format!("outrigger-{}.sock", free.port());
    assert_eq!(mode(&made[0].join(&name)), 0o600);
    // One of old that was left behind does not stand in the way.
    drop(std::os::unix::net::UnixListener::bind(tmp.join(&name)).expect("binds"));
    // By its own place, and by the one that it would have had among everybody's files.
    for path in [made[0].join(&name), tmp.join(&name)] {
        let answer = outrigger().env("TMPDIR", &tmp).args(["breaker", "--socket"]).arg(&path).arg("status").output().expect("runs");
        assert!(answer.status.success(), "{path:?}: {answer:?}");
    }
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);
    assert!(!made[0].join(&name).exists());
}

/// Names can change hands: the file may be ours, and who listens another.
#[test]
fn a_socket_on_which_another_user_listens_is_not_spoken_to() {
    let home = Home::new("");
    let (dir, path) = (home.path("."), home.path("other.sock"));
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("ours");
    let mut listener = Command::new(std::env::current_exe().expect("this test"));
    listener.args(["--exact", "means::a_listener_for_the_test_above", "--ignored"]).env("LISTENS", &path).uid(65_534);
    let Ok(mut listener) = listener.stdin(Stdio::piped()).stdout(Stdio::null()).spawn() else {
        eprintln!("SKIPPED: only root can be another user");
        return;
    };
    until("it listens", || path.exists());
    std::os::unix::fs::chown(&path, Some(0), None).expect("taken");
    let (code, _, said) = run(&["drain", "--socket", &home.text("other.sock")]);
    assert!(code == Some(1) && said.contains("who listens on") && said.contains("user 65534"), "{said}");
    drop(listener.stdin.take());
    assert!(listener.wait().expect("it ends").success());
}

#[test]
#[ignore = "the test above runs it in a process of another user"]
fn a_listener_for_the_test_above() {
    if let Some(path) = std::env::var_os("LISTENS") {
        let _listener = std::os::unix::net::UnixListener::bind(path).expect("binds");
        std::io::stdin().read_to_end(&mut Vec::new()).expect("the end");
    }
}

#[test]
fn a_socket_of_another_user_is_not_spoken_to() {
    let home = Home::new("");
    let path = home.path("other.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).expect("binds");
    if std::os::unix::fs::chown(&path, Some(65_534), None).is_err() {
        eprintln!("SKIPPED: only root can give a file to another user");
        return;
    }
    let (code, _, said) = run(&["drain", "--socket", &home.text("other.sock")]);
    assert!(code == Some(1) && said.contains("is not spoken to") && said.contains("user 65534"), "{said}");
}

#[test]
fn a_limit_on_users_says_what_it_needs_of_the_app_in_check_and_at_the_start() {
    const NEEDS: &str = "if the app says which: start it under OpenTelemetry";
    let app = App::start();
    let home = Home::new(&(yaml(&app, "  limits: [{name: spend, key: client_ip, usd: 1, window: 1d}]") + QUICK));
    let (code, stdout, stderr) = run(&["check", &home.text("proxy.yaml")]);
    assert_eq!((code, (stdout + &stderr).matches(NEEDS).count()), (Some(0), 1));
    let mut proxy = home.start();
    assert_eq!(proxy.times_heard(NEEDS), 1);
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);
}
