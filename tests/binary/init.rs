//! `outrigger init`: the file that it writes for a running app and the keys of the environment, and that it writes over nothing.

use std::{fs, process::Stdio};

use super::process::{App, Home, get, outrigger, run};

/// `init` with a key in the environment: exit code, standard output, standard error.
fn init(line: &[&str]) -> (Option<i32>, String, String) {
    let mut command = outrigger();
    command.arg("init").args(line).env("OPENAI_API_KEY", "sk-hunter2").env("GROQ_API_KEY", "sk-hunter3");
    let done = command.stdin(Stdio::null()).output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn it_writes_a_file_that_is_good_and_serves_the_app_and_tells_no_key() {
    let app = App::start();
    let home = Home::new("");
    let (port, file) = (app.address.port().to_string(), home.text("new.yaml"));
    let (code, out, complaint) = init(&["--app", &port, "--config", &file, "--yes"]);
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{out}");
    for part in [
        &format!("app        {port}: it answers"),
        "provider   openai (OPENAI_API_KEY is set)",
        "provider   groq",
        &format!("outrigger run --config {file}"),
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    let text = fs::read_to_string(&file).expect("written");
    assert!(!text.contains("hunter") && !out.contains("hunter"), "{text}{out}");
    assert!(text.contains("keys: [\"${OPENAI_API_KEY:-}\"]") && text.contains("default_provider: [openai]"), "{text}");
    let (code, out, complaint) = run(&["check", &file]);
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{out}");

    // Only the ports are changed, so that tests do not meet.
    let listens = |line: &str| line.trim_start().starts_with("listen:");
    let moved: Vec<String> =
        text.lines().map(|line| if listens(line) { "  listen: 127.0.0.1:0".to_owned() } else { line.to_owned() }).collect();
    home.write(&format!("{}\nadmin: {{listen: 127.0.0.1:0, probes: off, socket: SOCKET}}\n", moved.join("\n")));
    let proxy = home.start();
    assert_eq!(get(proxy.inbound, "/a").text(), "hello");
    assert!(get(proxy.outbound, "/v1/models").json().expect("JSON")["data"].is_array());
}

#[test]
fn it_writes_over_nothing_unless_told() {
    let home = Home::new("");
    let file = home.text("mine.yaml");
    fs::write(&file, "# mine\n").expect("written");
    let (code, _, complaint) = init(&["--app", "1", "--config", &file, "--yes"]);
    assert!(code == Some(1) && complaint.contains("is there already; --force"), "{complaint}");
    assert_eq!(fs::read_to_string(&file).expect("there"), "# mine\n");
    let (code, out, _) = init(&["--app", "1", "--config", &file, "--print"]);
    assert!(code == Some(0) && out.contains("nobody has answered") && out.contains("app: 1 "), "{out}");
    assert_eq!(fs::read_to_string(&file).expect("there"), "# mine\n");
    assert_eq!(init(&["--app", "1", "--config", &file, "--yes", "--force"]).0, Some(0));
    assert!(fs::read_to_string(&file).expect("there").starts_with("# Written by `outrigger init`"));
    let (code, _, complaint) = init(&["--app", "ftp://x", "--config", &home.text("other.yaml")]);
    assert!(code == Some(1) && complaint.contains("--app: `ftp://x` needs a scheme"), "{complaint}");
}
