//! Everything under `deploy/` is parsed by the tool that will read it in earnest, and asks only for what exists.
//!
//! The tools come from `tests/tools.sh`. Where one is missing the test says SKIPPED aloud, and fails where `CI` is set.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail like the test itself")]

#[path = "deploy/package.rs"]
mod package;
#[path = "deploy/runbooks.rs"]
mod runbooks;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use outrigger::telemetry::metrics::{FAMILIES, Kind};
use serde_yaml::Value;

// ---- image, Compose, Kubernetes -----------------------------------------------------------------

#[test]
fn the_dockerfile_has_no_finding_and_runs_as_nobody() {
    let Some(hadolint) = tool("hadolint") else { return };
    passes(Command::new(hadolint).arg(deploy("Dockerfile")));
    let dockerfile = read("Dockerfile");
    let last = dockerfile.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("scratch\n"), "the last stage holds nothing but what is copied into it");
    for line in
        ["USER 65532:65532", "HEALTHCHECK ", "CMD [\"/outrigger\", \"health\"]", "ENTRYPOINT [\"/outrigger\"]", "STOPSIGNAL SIGTERM"]
    {
        assert!(last.contains(line), "{line}");
    }
}

#[test]
fn the_image_root_starts_the_binary_without_a_shell() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    passes(Command::new("sh").arg(deploy("rootfs.sh")).arg(env!("CARGO_BIN_EXE_outrigger")).arg(&root));
    for shell in ["bin", "usr/bin", "sbin"] {
        assert!(!root.join(shell).exists(), "{shell} is not in the image");
    }
    // chroot needs root; a user namespace of our own gives it where we are not.
    let mut start = if Command::new("id").arg("-u").output().unwrap().stdout == b"0\n" {
        let mut chroot = Command::new("chroot");
        chroot.arg("--userspec=65532:65532");
        // The temporary directory is closed to others.
        passes(Command::new("chmod").arg("0755").arg(dir.path()));
        chroot
    } else if Command::new("unshare").args(["-r", "true"]).status().is_ok_and(|status| status.success()) {
        let mut unshare = Command::new("unshare");
        unshare.args(["-r", "chroot"]);
        unshare
    } else {
        return missing("chroot (neither root nor user namespaces)");
    };
    passes(start.arg(&root).args(["/outrigger", "--help"]).env_clear().env("PATH", env::var_os("PATH").unwrap()));
}

#[test]
fn every_verb_that_deploy_uses_exists() {
    for verb in ["run", "health", "check", "purge", "reload", "drain"] {
        passes(outrigger().args([verb, "--help"]));
    }
}

#[test]
fn the_compose_file_fits_the_compose_specification() {
    let Some(check) = tool("check-jsonschema") else { return };
    passes(Command::new(check).args(["--builtin-schema", "vendor.compose-spec"]).arg(deploy("compose.yaml")));

    let compose = yaml(&read("compose.yaml"));
    let services = compose["services"].as_mapping().unwrap();
    for wanted in ["app", "outrigger", "redis", "prometheus"] {
        assert!(services.contains_key(wanted), "{wanted}");
    }
    for (name, service) in services {
        for volume in service["volumes"].as_sequence().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            if let Some(path) = source.strip_prefix("./") {
                assert!(deploy(path).exists(), "{name:?} mounts {path}, which is not there");
            } else {
                assert!(compose["volumes"].get(source).is_some(), "{name:?} mounts {source}, which is not declared");
            }
        }
    }
    // One loopback for both: the app's address in proxy.yaml depends on it.
    assert_eq!(compose["services"]["outrigger"]["network_mode"].as_str(), Some("service:app"));
}

#[test]
fn the_kubernetes_manifests_fit_the_schemas() {
    let Some(validate) = tool("kubernetes-validate") else { return };
    // The oldest with native sidecars on by default and the sleep action, and what the validator knows as newest.
    for version in [&["-k", "1.30"][..], &[]] {
        for file in files("kubernetes", "yaml") {
            passes(Command::new(&validate).arg("--strict").args(version).arg(&file));
        }
    }
}

#[test]
fn the_sidecar_is_native_and_probed_where_it_listens() {
    let deployment = yaml(&read("kubernetes/deployment.yaml"));
    let pod = &deployment["spec"]["template"]["spec"];
    let sidecar = &pod["initContainers"][0];
    assert_eq!(sidecar["restartPolicy"].as_str(), Some("Always"), "this is what makes it a native sidecar");
    let config = yaml(yaml(&read("kubernetes/configmap.yaml"))["data"]["proxy.yaml"].as_str().unwrap());
    let port_of = |listen: &Value| listen.as_str().unwrap().rsplit(':').next().unwrap().parse::<u64>().unwrap();
    let ports: BTreeMap<_, _> = sidecar["ports"]
        .as_sequence()
        .unwrap()
        .iter()
        .map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_u64().unwrap()))
        .collect();
    assert_eq!(ports["http"], port_of(&config["inbound"]["listen"]));
    assert_eq!(ports["probes"], port_of(&config["admin"]["probes"]));
    for (probe, path) in [("startupProbe", "/ready"), ("readinessProbe", "/ready"), ("livenessProbe", "/live")] {
        assert_eq!(sidecar[probe]["httpGet"]["port"].as_str(), Some("probes"), "{probe}");
        assert_eq!(sidecar[probe]["httpGet"]["path"].as_str(), Some(path), "{probe}");
    }
    assert!(!sidecar["lifecycle"]["preStop"].is_null());
    for mount in sidecar["volumeMounts"].as_sequence().unwrap() {
        assert!(mount["subPath"].is_null(), "a subPath never sees a changed ConfigMap");
    }
    let security = &sidecar["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(security["allowPrivilegeEscalation"].as_bool(), Some(false));

    let seconds = |text: &Value| text.as_str().unwrap().trim_end_matches('s').parse::<u64>().unwrap();
    let stopping =
        pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap() + seconds(&config["shutdown"]["deadline"]);
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > stopping, "the grace period covers both stops");
}

// ---- commands -----------------------------------------------------------------------------------

/// Documents that speak of the command line.
const DOCUMENTS: [&str; 25] = [
    "../README.md",
    "guide/alerts.md",
    "guide/attribution.md",
    "guide/audit.md",
    "guide/cache.md",
    "guide/gate.md",
    "guide/ledger.md",
    "guide/limits.md",
    "guide/page.md",
    "guide/models.md",
    "guide/monitors.md",
    "guide/prices.md",
    "guide/privacy.md",
    "guide/protocol.md",
    "guide/redis.md",
    "guide/targets.md",
    "guide/telemetry.md",
    "guide/validate.md",
    "guide/web.md",
    "runbooks/alerts.md",
    "runbooks/deploy.md",
    "runbooks/incidents.md",
    "runbooks/troubleshooting.md",
    "guide/config.md",
    "guide/errors.md",
];

/// What a document says to type: the code of its lines, after `outrigger`.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut shell = false;
    for line in text.lines() {
        // A list's own lines are indented.
        let line = line.trim_start();
        if line.starts_with("```") {
            shell = line == "```sh";
            continue;
        }
        let spans: Vec<&str> = if shell { vec![line.split('#').next().unwrap()] } else { line.split('`').skip(1).step_by(2).collect() };
        let typed = spans.into_iter().filter_map(|span| span.trim().split_once("outrigger ").filter(|(before, _)| !before.contains(' ')));
        found.extend(typed.map(|(_, typed)| typed.to_owned()));
    }
    found
}

fn help(words: &[&str]) -> String {
    String::from_utf8(passes(outrigger().args(words).arg("--help")).stdout).unwrap()
}

#[test]
fn what_documents_say_to_type_exists() {
    let top = help(&[]);
    let verbs: BTreeSet<&str> = top
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("Options:")
        .next()
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let mut told = BTreeSet::new();
    for document in DOCUMENTS {
        for typed in commands(&read(document)) {
            let words: Vec<&str> =
                typed.split(|c: char| c.is_whitespace() || "[]|\\'".contains(c)).filter(|word| !word.is_empty()).collect();
            let verb = words[0];
            assert!(verbs.contains(verb), "{document}: outrigger {typed}: there is no verb {verb}");
            told.insert(verb.to_owned());
            let mut known = help(&[verb]);
            // `config plan` has options that `config` has not.
            let inner = known.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default().to_owned();
            if let Some(act) = words.get(1).filter(|act| inner.lines().any(|line| line.split_whitespace().next() == Some(**act))) {
                known += &help(&[verb, act]);
            }
            for option in words.iter().filter(|word| word.starts_with('-')) {
                assert!(known.split([' ', ',', '\n']).any(|word| word == *option), "{document}: outrigger {typed}: {verb} has no {option}");
            }
        }
    }
    let untold: Vec<&&str> = verbs.iter().filter(|verb| **verb != "help" && !told.contains(**verb)).collect();
    assert!(untold.is_empty(), "README.md says nothing of {untold:?}");
}

#[test]
fn the_readme_names_every_option_that_a_verb_of_a_running_proxy_takes() {
    let readme = read("../README.md");
    for verb in ["run", "explain", "health", "purge", "top"] {
        let known = help(&[verb]);
        let own = known.split("Options:").nth(1).unwrap().split("Before or behind").next().unwrap();
        for option in own.split([' ', ',', '\n']).filter(|word| word.starts_with("--") && *word != "--help") {
            assert!(readme.contains(option), "README.md does not name {option} of {verb}");
        }
    }
}

// ---- proxy.yaml ---------------------------------------------------------------------------------

#[test]
fn the_configurations_load() {
    let dir = tempfile::tempdir().unwrap();
    let mapped = dir.path().join("proxy.yaml");
    fs::write(&mapped, yaml(&read("kubernetes/configmap.yaml"))["data"]["proxy.yaml"].as_str().unwrap()).unwrap();
    let text: String = DOCUMENTS.map(read).concat();
    let made = rcgen::generate_simple_self_signed(["app.test".to_owned()]).unwrap();
    for name in ["tls.crt", "clients.crt", "ca.crt"] {
        fs::write(dir.path().join(name), made.cert.pem()).unwrap();
    }
    fs::write(dir.path().join("tls.key"), made.signing_key.serialize_pem()).and(fs::write(dir.path().join("keys.json"), "")).unwrap();
    let mut files = vec![mapped, deploy("compose/proxy.yaml")];
    for (n, block) in text.split("```yaml\n").skip(1).enumerate() {
        let shown = dir.path().join(format!("shown-{n}.yaml"));
        fs::write(&shown, block.split("```").next().unwrap()).unwrap();
        files.push(shown);
    }
    assert!(files.len() > 3, "the documents show configurations");
    for file in files {
        passes(outrigger().arg("check").arg(&file));
    }
    let wrong = dir.path().join("wrong.yaml");
    fs::write(&wrong, "inbound: {ap: http://127.0.0.1:3000}\n").unwrap();
    assert!(!outrigger().arg("check").arg(&wrong).output().unwrap().status.success(), "`check` looks at the file");
}

// ---- Prometheus ---------------------------------------------------------------------------------

#[test]
fn promtool_accepts_the_configuration_and_the_rules_do_what_they_say() {
    let Some(promtool) = tool("promtool") else { return };
    let here = deploy("prometheus");
    passes(Command::new(&promtool).current_dir(&here).args(["check", "config", "prometheus.yml"]));
    passes(Command::new(&promtool).current_dir(&here).args(["test", "rules", "rules.test.yml"]));
}

#[test]
fn every_alert_has_a_case_and_a_runbook() {
    let runbook = read("runbooks/incidents.md");
    let sections: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let cases = yaml(&read("prometheus/rules.test.yml"));
    let fired: BTreeSet<&str> = cases["tests"]
        .as_sequence()
        .unwrap()
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_sequence().into_iter().flatten())
        .filter(|case| case["exp_alerts"].as_sequence().is_some_and(|alerts| !alerts.is_empty()))
        .map(|case| case["alertname"].as_str().unwrap())
        .collect();
    let mut alerts = BTreeSet::new();
    for rule in rules() {
        let Some(name) = rule["alert"].as_str().map(str::to_owned) else { continue };
        assert!(fired.contains(name.as_str()), "no case of rules.test.yml fires {name}");
        assert_eq!(
            rule["annotations"]["runbook"].as_str().unwrap(),
            format!("deploy/runbooks/incidents.md#{}", name.to_lowercase()),
            "{name}"
        );
        alerts.insert(name);
    }
    assert_eq!(alerts.iter().map(String::as_str).collect::<BTreeSet<_>>(), sections, "alerts and sections of incidents.md");
}

#[test]
fn rules_ask_only_for_metrics_that_exist() {
    let recorded: BTreeSet<String> = rules().iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned)).collect();
    for rule in rules() {
        check_query(rule["expr"].as_str().unwrap(), &recorded);
    }
}

// ---- Grafana, collector -------------------------------------------------------------------------

#[test]
fn dashboards_ask_only_for_metrics_that_exist_in_queries_that_parse() {
    let mut generated = String::from("groups:\n- name: dashboard\n  rules:\n");
    for file in files("grafana/dashboards", "json") {
        let dashboard: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: an id twice");
            let grid = &panel["gridPos"];
            assert!(places.insert((grid["x"].as_u64(), grid["y"].as_u64())), "{title} lies on another panel");
            assert!(grid["x"].as_u64().unwrap() + grid["w"].as_u64().unwrap() <= 24, "{title} is outside the grid");
            if panel["type"] == "row" {
                continue;
            }
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{title} shows nothing");
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
                let query = target["expr"].as_str().unwrap();
                check_query(query, &BTreeSet::new());
                let query =
                    query.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$job", ".+").replace("$instance", ".+");
                assert!(!query.contains('$'), "{title}: a variable that is not declared: {query}");
                generated.push_str(&format!("  - record: panel:{}\n    expr: {}\n", ids.len(), serde_json::to_string(&query).unwrap()));
            }
        }
    }
    let Some(promtool) = tool("promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("panels.yml");
    fs::write(&file, generated).unwrap();
    // `check rules` alone would pass a query with a broken expression as a lint; --lint=none leaves the parser.
    passes(Command::new(promtool).args(["check", "rules", "--lint=none"]).arg(file));
}

#[test]
fn grafana_finds_its_data_source_and_dashboards() {
    let sources = yaml(&read("grafana/provisioning/datasources/prometheus.yaml"));
    assert_eq!(sources["datasources"][0]["url"].as_str(), Some("http://prometheus:9090"), "the service of compose.yaml");
    let providers = yaml(&read("grafana/provisioning/dashboards/outrigger.yaml"));
    let folder = providers["providers"][0]["options"]["path"].as_str().unwrap();
    let compose = yaml(&read("compose.yaml"));
    let mounts = compose["services"]["grafana"]["volumes"].as_sequence().unwrap();
    assert!(mounts.iter().any(|mount| mount.as_str() == Some(&format!("./grafana/dashboards:{folder}:ro"))), "{folder} is mounted");
}

#[test]
fn the_collector_pipelines_name_components_that_are_defined() {
    let config = yaml(&read("otel/collector.yaml"));
    for (name, pipeline) in config["service"]["pipelines"].as_mapping().unwrap() {
        for kind in ["receivers", "processors", "exporters"] {
            for component in pipeline[kind].as_sequence().unwrap() {
                assert!(config[kind].get(component).is_some(), "{name:?} uses {kind} {component:?}");
            }
        }
    }
}

// ---- helpers ------------------------------------------------------------------------------------

/// Every metric named in `query` is declared or recorded, and so is every label it selects or groups by.
fn check_query(query: &str, recorded: &BTreeSet<String>) {
    let known: BTreeMap<String, &[&str]> = FAMILIES
        .iter()
        .flat_map(|family| {
            let suffixes: &[&str] = if matches!(family.kind, Kind::Histogram(_)) { &["_bucket", "_sum", "_count"] } else { &[""] };
            suffixes.iter().map(move |suffix| (format!("{}{suffix}", family.name), family.labels))
        })
        .collect();
    let mut found = 0;
    let mut rest = query;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        rest = &rest[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if !(word.starts_with("outrigger") || word.starts_with("process_")) {
            found += usize::from(word == "up");
            continue;
        }
        // A label's value, such as job="outrigger", is no metric.
        if word == "outrigger" {
            continue;
        }
        found += 1;
        if recorded.contains(word) {
            continue;
        }
        let labels = known.get(word).unwrap_or_else(|| panic!("{word} does not exist: {query}"));
        if let Some(selector) = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()) {
            for matcher in selector.split(", ").flat_map(|part| part.split(",")) {
                let label = matcher.split(['=', '!']).next().unwrap().trim();
                assert!(["job", "instance"].contains(&label) || labels.contains(&label), "{word} has no label {label}: {query}");
            }
        }
    }
    assert!(found > 0, "no metric in {query}");
}

fn rules() -> Vec<Value> {
    let groups = yaml(&read("prometheus/rules.yml"));
    groups["groups"].as_sequence().unwrap().iter().flat_map(|group| group["rules"].as_sequence().unwrap().clone()).collect()
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy(path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(deploy(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "nothing in deploy/{folder}");
    found
}

fn outrigger() -> Command {
    Command::new(env!("CARGO_BIN_EXE_outrigger"))
}

/// A tool of `tests/tools.sh`, or of the machine.
fn tool(name: &str) -> Option<PathBuf> {
    let tools = env::var_os("OUTRIGGER_TOOLS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"), PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let found = [tools.join("venv/bin")].into_iter().chain(env::split_paths(&path)).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        missing(name);
    }
    found
}

/// Says aloud that a test was not run; where `CI` is set, that is a failure.
fn missing(what: &str) {
    assert!(env::var_os("CI").is_none(), "{what} is missing: run tests/tools.sh first");
    // Not eprintln!: the harness keeps that to itself while the test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what} is missing; run tests/tools.sh first");
}

fn passes(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
