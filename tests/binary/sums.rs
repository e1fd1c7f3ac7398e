//! Money in the real process: another file of prices, answers about the ledger as files and as advice, and a copy of the
//! ledger that is taken while calls come in.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
};

use serde_json::Value;

use super::{
    QUICK,
    ledger::{call, call_at, home, page, provider, total, written},
    process::{Home, Proxy, run, until},
};

fn once(name: &str) -> impl Iterator<Item = String> {
    std::iter::once(name.to_owned())
}

/// What the command says; it goes well.
fn said(words: &[&str]) -> String {
    let (code, text, wrong) = run(words);
    assert_eq!(code, Some(0), "{words:?}: {wrong}");
    text
}

/// Nano-dollars of the next call.
fn next(proxy: &Proxy) -> u64 {
    let (calls, _, before) = total(proxy);
    call(proxy, once("u-1"));
    until("the call is counted", || total(proxy).0 == calls + 1);
    total(proxy).2 - before
}

#[test]
fn another_file_of_prices_is_at_work_after_a_reload_and_a_bad_one_is_not() {
    let home = Home::new("");
    let provider = provider();
    home.write(&format!(
        "outbound:\n  listen: 127.0.0.1:0\n  providers: {{openai: {{url: 'http://{provider}'}}}}\n  prices_file: {}\n\
         admin: {{listen: 127.0.0.1:0, probes: off, socket: SOCKET}}\nworkers: 1\ntelemetry: {{log: off}}\n{QUICK}",
        home.text("prices.yaml")
    ));
    let price = |text: &str| {
        // As a whole: the file is watched.
        fs::write(home.path("fresh-prices.yaml"), text).expect("written");
        fs::rename(home.path("fresh-prices.yaml"), home.path("prices.yaml")).expect("renamed");
    };
    let socket = home.text("admin.sock");
    price("- {model: gpt-4o, input: 1, output: 1}\n");
    let proxy = home.start();
    let one = next(&proxy);
    assert!(one > 0);
    price("- {model: gpt-4o, input: 7, output: 7}\n");
    said(&["reload", "--socket", &socket]);
    assert_eq!(next(&proxy), 7 * one, "each call has the same tokens");
    price("- {model: gpt-4o, input: dear, output: 7}\n");
    let (code, _, wrong) = run(&["reload", "--socket", &socket]);
    assert!(code == Some(1) && wrong.contains("prices.yaml") && wrong.contains("dear"), "{wrong}");
    assert_eq!(next(&proxy), 7 * one, "the prices before serve on");
}

/// The columns of a CSV text, by the name of each: no cell of these has a comma.
fn table(text: &str) -> Vec<Vec<(String, String)>> {
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let head = lines.next().expect("a head");
    lines.map(|cells| head.iter().cloned().zip(cells).collect()).collect()
}

fn cell<'a>(row: &'a [(String, String)], name: &str) -> &'a str {
    row.iter().find(|(head, _)| head == name).map(|(_, cell)| cell.as_str()).expect("a column")
}

#[test]
fn usage_as_csv_has_the_parts_of_its_time_zone_and_every_dollar() {
    let home = home(provider(), "interval: 100ms");
    let proxy = home.start();
    let calls = call(&proxy, ["anna", "anna", "bert"].into_iter().map(str::to_owned));
    written(&proxy, calls);
    let (_, _, nano) = total(&proxy);
    let socket = home.text("admin.sock");
    for (bucket, zone, part) in
        [("day", "Asia/Kolkata", "T00:00:00+05:30"), ("hour", "Asia/Kolkata", ":00:00+05:30"), ("hour", "UTC", ":00:00Z")]
    {
        let words = ["usage", "--since", "48h", "--by", "caller", "--format", "csv", "--bucket", bucket, "--tz", zone, "--socket", &socket];
        let text = said(&words);
        let rows = table(&text);
        let sum = |name: &str, which: &dyn Fn(&str) -> bool| {
            let rows = rows.iter().filter(|row| which(cell(row, "caller")));
            rows.map(|row| cell(row, name).replace('.', "").parse::<u64>().expect("digits")).sum::<u64>()
        };
        assert_eq!((sum("calls", &|name| name == "anna"), sum("calls", &|name| name == "bert")), (2, 1), "{text}");
        assert_eq!(sum("cost_usd", &|_| true), nano, "{text}");
        // A part begins on the hour, or at midnight, of the zone.
        assert!(rows.iter().all(|row| cell(row, "from").contains(part)), "{text}");
    }
}

#[test]
fn advice_from_a_live_ledger_has_the_ledgers_own_figures() {
    let home = home(provider(), "interval: 100ms");
    let proxy = home.start();
    let calls = call(&proxy, (0..4).map(|n| format!("u-{n}")));
    written(&proxy, calls);
    let page = page(&proxy, "/api/usage?from=1h&by=model");
    let tokens = |class: &str| page["total"]["tokens"][class].as_u64().expect("tokens");
    // gpt-4o at 2.50 and 10 dollars for a million tokens, gpt-4o-mini at 0.15 and 0.60.
    let saved = tokens("input") * (2_500 - 150) + tokens("output") * (10_000 - 600);
    let words = ["advise", "--since", "1h", "--instead", "gpt-4o-mini", "--json", "--socket", &home.text("admin.sock")];
    let advice: Value = serde_json::from_str(&said(&words)).expect("JSON");
    assert_eq!((&advice["cost_usd"], &advice["complete"]), (&page["total"]["cost_usd"], &page["complete"]), "{advice:#}");
    let about = |what: &str| advice["advice"].as_array().expect("advice").iter().find(|one| one["about"] == what).cloned().expect("told");
    let model = about("model");
    let nano: u64 = model["saves_usd"].as_str().and_then(decimal).expect("dollars");
    assert_eq!(nano, saved, "{model:#}");
    assert!(model["text"].as_str().is_some_and(|text| text.contains("gpt-4o-mini")), "{model:#}");
    assert!(about("limit")["text"].as_str().is_some_and(|text| text.contains("not enough is known: 4 days")), "{advice:#}");
    assert_eq!(about("cache")["saves_usd"], Value::Null, "nothing was answered by a cache");
}

/// Nano-dollars of a decimal text.
fn decimal(usd: &str) -> Option<u64> {
    let (whole, part) = usd.split_once('.').unwrap_or((usd, ""));
    format!("{whole}{part:0<9}").parse().ok()
}

#[test]
fn a_copy_taken_under_load_gives_the_same_sums_wherever_it_is_restored() {
    let provider = provider();
    let busy = home(provider, "interval: 100ms");
    let proxy = busy.start();
    call(&proxy, once("u-0"));
    written(&proxy, 1);
    let (_, tokens, nano) = total(&proxy);
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(1));
    let (socket, copy) = (busy.text("admin.sock"), busy.text("copy.redb"));
    let address = proxy.outbound.expect("open");
    let (before, after) = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) && made.load(SeqCst) < 50_000 {
                made.fetch_add(call_at(address, once(&format!("u-{}", made.load(SeqCst) % 5))), SeqCst);
            }
        });
        until("calls come in", || made.load(SeqCst) > 20);
        until("the ledger is written", || total(&proxy).0 > 10);
        let before = total(&proxy).0;
        said(&["ledger", "snapshot", &copy, "--socket", &socket]);
        let after = made.load(SeqCst) + 1;
        until("calls go on", || made.load(SeqCst) > after + 5);
        stop.store(true, SeqCst);
        (before, after)
    });
    let all = made.load(SeqCst);
    written(&proxy, all);
    assert_eq!(total(&proxy), (all, all * tokens, all * nano), "a copy takes nothing from the ledger");
    let elsewhere = home(provider, "interval: 100ms");
    let other = elsewhere.start();
    said(&["ledger", "restore", &copy, "--socket", &elsewhere.text("admin.sock")]);
    said(&["ledger", "restore", &copy, "--socket", &socket]);
    let (calls, copied_tokens, copied_nano) = total(&other);
    assert!((before..=after).contains(&calls), "{calls} calls of {before} to {after}");
    assert_eq!((copied_tokens, copied_nano), (calls * tokens, calls * nano), "no call is there in part");
    let rows = |proxy: &Proxy| page(proxy, "/api/usage?from=2h&by=caller,provider,model,outcome,known")["rows"].clone();
    assert_eq!(rows(&other), rows(&proxy), "here and there");
}
