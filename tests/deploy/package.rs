//! What `deploy/package/pack.py` packs is installed by pip and npm themselves, and runs.

use std::{fs, process::Command};

use super::{deploy, missing, passes, tool};

const VERSION: &str = concat!("outrigger ", env!("CARGO_PKG_VERSION"));

#[test]
fn pip_and_npm_install_what_is_packed() {
    let (Some(python), Some(pip), Some(npm), Some(_)) = (tool("python3"), tool("pip"), tool("npm"), tool("objdump")) else { return };
    if !passes(Command::new(&python).args(["-c", "import sys; print(sys.version_info >= (3, 11))"])).stdout.starts_with(b"True") {
        return missing("Python 3.11");
    }
    let dir = tempfile::tempdir().unwrap();
    let pack = |out: &str| {
        passes(
            Command::new(&python)
                .arg(deploy("package/pack.py"))
                .args(["--binary", env!("CARGO_BIN_EXE_outrigger"), "--out"])
                .arg(dir.path().join(out)),
        );
        let mut packed: Vec<_> = fs::read_dir(dir.path().join(out)).unwrap().map(|entry| entry.unwrap().path()).collect();
        packed.sort();
        packed
    };
    let packed = pack("once");
    let [npm_package, wheel] = &packed[..] else { panic!("not two packages: {packed:?}") };
    for (first, second) in packed.iter().zip(pack("twice")) {
        assert!(fs::read(first).unwrap() == fs::read(&second).unwrap(), "{} differs from packing to packing", first.display());
    }

    let site = dir.path().join("site");
    passes(
        Command::new(pip).args(["install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", "--prefix"]).arg(&site).arg(wheel),
    );
    assert_says_version(&mut Command::new(site.join("bin/outrigger")));

    let project = dir.path().join("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("package.json"), "{\"private\": true}").unwrap();
    passes(Command::new(npm).args(["install", "--offline", "--no-audit", "--no-fund"]).arg(npm_package).current_dir(&project));
    assert_says_version(&mut Command::new(project.join("node_modules/.bin/outrigger")));
}

#[test]
fn a_binary_that_is_not_there_is_told() {
    let Some(python) = tool("python3") else { return };
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(python)
        .arg(deploy("package/pack.py"))
        .args(["--binary", "/nowhere/outrigger", "--out"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/nowhere/outrigger is not there. Build it first: cargo build --release --locked"), "{said}");
}

fn assert_says_version(command: &mut Command) {
    let said = passes(command.arg("--version")).stdout;
    assert!(said.starts_with(VERSION.as_bytes()), "{}", String::from_utf8_lossy(&said));
}
