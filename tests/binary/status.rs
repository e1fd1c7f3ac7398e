//! The status page at a path of the inbound door of the real process.

use std::process::Command;

use outrigger::cli::client::Client;

use super::{
    QUICK,
    process::{App, Home, block_on, get, outrigger, until},
    yaml,
};

const PAGE: &str = "monitors: {}\nstatus_page: {path: /status, title: Shop}\n";

#[test]
fn the_page_stands_below_its_path_while_the_app_is_away_and_hides_nothing_else() {
    // Nobody listens there.
    let away = "inbound: {listen: 127.0.0.1:0, app: 'http://127.0.0.1:1'}\nadmin: {listen: 127.0.0.1:0, probes: off, socket: SOCKET}\n";
    let home = Home::new(&format!("{away}{PAGE}{QUICK}"));
    let proxy = home.start();
    until("the page is there", || get(proxy.inbound, "/status").status.as_u16() == 200);
    assert_eq!(get(proxy.inbound, "/").status.as_u16(), 502, "the app is away");
    let page = get(proxy.inbound, "/status");
    assert!(page.text().contains("<title>Shop</title>"), "{}", page.text());
    let field = |name: &str| page.headers[name].to_str().expect("text").to_owned();
    assert!(field("content-security-policy").starts_with("default-src 'none'"));
    assert_eq!((field("content-type").as_str(), &field("cache-control")[..6]), ("text/html; charset=utf-8", "public"));
    assert_eq!(get(proxy.inbound, "/status/").text(), page.text());
    until("the app is seen to be away", || get(proxy.inbound, "/status/status.json").text().contains("\"down\""));
    assert!(get(proxy.inbound, "/status/badge/app.svg").text().contains("<svg"));
    assert_eq!(get(proxy.inbound, "/status/nothing").status.as_u16(), 404);
    for apps in ["/statuses", "/status.json", "/a/status"] {
        assert_eq!(get(proxy.inbound, apps).status.as_u16(), 502, "{apps} is the app's");
    }
    let now = get(proxy.inbound, "/status/badge/app/7d.svg");
    let tag = now.headers["etag"].to_str().expect("text");
    let inbound = proxy.inbound.expect("open");
    let answered = |words: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"]).args(words);
        let output = command.arg(format!("http://{inbound}/status/badge/app/7d.svg")).output().expect("curl runs");
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(answered(&["-H", &format!("If-None-Match: {tag}")]), "304 0");
    assert_eq!(answered(&["-I"]), "200 0", "HEAD");
    assert_eq!(&answered(&["-X", "POST"])[..3], "405");
    // A connection goes on after the page.
    let client = Client::tcp(inbound);
    for path in ["/status", "/status/status.json", "/"] {
        assert!(block_on(client.get(path)).is_ok(), "{path}");
    }
}

#[test]
fn check_says_what_the_page_hides() {
    let app = App::start();
    let check = |routes: &str| {
        let home = Home::new(&format!("{}{PAGE}", yaml(&app, routes)));
        let output = outrigger().args(["check", &home.text("proxy.yaml")]).output().expect("runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = check("");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the proxy answers /status and all below it: requests for an app's /status do not reach the app"), "{said}");
    let (code, said) = check("  routes: [{match: {path: /status/health}, timeouts: {total: 1s}}]");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("so the route of `/status/health` would never be used"), "{said}");
}
