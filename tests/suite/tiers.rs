//! Amounts by what `auth` has verified.

use http::{Request, StatusCode};
use outrigger::{config::KeyFile, policy::auth::key};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::world::{Reply, World, run};

fn row(seed: u8, caller: &str, tier: Option<&str>) -> serde_json::Value {
    let secret = key::mint([seed; 32]);
    let sha256: String = key::digest(&secret).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut row = json!({"name": format!("key-{seed}"), "shows": &secret[..KeyFile::SHOWN], "sha256": sha256, "caller": caller});
    if let Some(tier) = tier {
        row["tier"] = json!(tier);
    }
    row
}

#[test]
fn the_tier_of_a_key_decides_how_much_its_caller_may() {
    run(async {
        let file = NamedTempFile::new().expect("a file");
        let keys = json!({"keys": [row(1, "ann", Some("gold")), row(2, "ann", None), row(3, "bob", None)]});
        std::fs::write(file.path(), keys.to_string()).expect("written");
        let yaml = "
inbound:
  app: http://app.test
  caller: [api_key]
  defaults: {auth: {api_keys: {file: 'KEYS'}}}
  limits: [{name: plan, key: caller, requests: 1, tier: verified, tiers: {gold: 3}, window: 1h}]
";
        let world = World::new(&yaml.replace("KEYS", &file.path().display().to_string())).await;
        world.app.always(Reply::ok("yes"));
        let ask = async |seed: u8| {
            let secret = key::mint([seed; 32]);
            let request = Request::get("/").header("host", "localhost").header("authorization", format!("Bearer {secret}"));
            world.client().ask(request.header("x-tier", "gold"), "").await.status
        };
        for (seed, passes) in [(1, 3), (3, 1)] {
            for nth in 0..4 {
                let expected = if nth < passes { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
                assert_eq!(ask(seed).await, expected, "key {seed}, request {nth}");
            }
        }
        assert_eq!(ask(2).await, StatusCode::TOO_MANY_REQUESTS, "ann has used more than the limit's own amount");
    });
}
