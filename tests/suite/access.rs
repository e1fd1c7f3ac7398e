//! `access`: lists of files, countries and programs, beside what is written.

use std::fs;

use http::{Request, StatusCode};

use crate::world::{World, run};

#[test]
fn files_countries_and_programs_decide_who_comes_in() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str, bytes: &[u8]| {
            fs::write(dir.path().join(name), bytes).expect("written");
            dir.path().join(name).display().to_string()
        };
        let (blocked, offices) = (file("blocked.txt", b"# bad\n192.0.2.64/26\n"), file("offices.txt", b"192.0.2.0/24\n"));
        let countries = file("countries.mmdb", include_bytes!("../configs/countries.mmdb"));
        let text = format!(
            "inbound:\n  app: http://app.test\n  routes:\n    - {{match: {{path: /listed}}, access: {{allow_files: {offices}, deny_files: [{blocked}]}}}}\n    \
             - {{match: {{path: /german}}, access: {{allow: [198.51.100.7], countries: {{file: {countries}, allow: DE}}}}}}\n    \
             - {{match: {{path: /not-french}}, access: {{countries: {{file: {countries}, deny: [FR]}}}}}}\n    \
             - {{match: {{path: /programs}}, access: {{deny_agents: ['*SQLmap*', '-']}}}}\n    \
             - {{name: watched, match: {{path: /watched}}, access: {{deny_agents: '*', mode: observe}}}}\n"
        );
        let world = World::new(&text).await;
        let ask = async |path: &str, from: &str, agent: &str| {
            let asked = Request::get(path).header("user-agent", agent);
            let answer = world.client().from(from).ask(asked, "").await;
            (answer.status == StatusCode::OK, answer.text().to_owned())
        };
        for (path, from, agent, passes) in [
            ("/listed", "192.0.2.1", "curl", true),
            ("/listed", "192.0.2.65", "curl", false),
            ("/listed", "203.0.113.1", "curl", false),
            ("/german", "192.0.2.1", "curl", true),
            ("/german", "198.51.100.1", "curl", false),
            ("/german", "198.51.100.7", "curl", true),
            ("/german", "127.0.0.1", "curl", false),
            ("/not-french", "198.51.100.1", "curl", false),
            ("/not-french", "127.0.0.1", "curl", true),
            ("/programs", "127.0.0.1", "sqlMAP/1.0", false),
            ("/programs", "127.0.0.1", "", false),
            ("/programs", "127.0.0.1", "curl", true),
            ("/watched", "127.0.0.1", "curl", true),
        ] {
            let (passed, text) = ask(path, from, agent).await;
            assert_eq!(passed, passes, "{path} from {from} with {agent}: {text}");
            assert!(passes || text.contains("access_denied"), "{text}");
        }
        assert!(ask("/german", "198.51.100.1", "x").await.1.contains("access.countries"));
        assert!(ask("/programs", "127.0.0.1", "").await.1.contains("access.deny_agents"));
        assert_eq!(world.count("outrigger_access_observed_total", &[("route", "watched")]), 1.0);
        // A list that changes is a reload; one that cannot be read changes nothing.
        fs::write(&blocked, "192.0.2.1\n").expect("written");
        world.reload(&text).expect("taken");
        assert!(!ask("/listed", "192.0.2.1", "curl").await.0 && ask("/listed", "192.0.2.65", "curl").await.0);
        assert!(world.log().await.iter().any(|line| line["would_refuse"] == "access"));
    });
}
