//! The official Python client, unmodified, from the package index.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::rig::Rig;
use crate::rig::api::Api;
use crate::rig::server::Server;

/// The newest version that is supported, and the oldest.
pub(crate) const NEWEST: &str = "miosa==2.19.2";
pub(crate) const OLDEST: &str = "miosa==1.0.0";

/// What the scripts and the client's own tests need besides; the client has
/// its WebSockets with the first.
const BESIDES: [&str; 3] = [
    "websockets==15.0.1",
    "pytest==8.4.2",
    "pytest-asyncio==1.2.0",
];

const BASICS: &str = include_str!("official_client/basics.py");
const STREAMS_AND_APPS: &str = include_str!("official_client/streams_and_apps.py");
const TEMPLATES: &str = include_str!("official_client/templates.py");

/// What makes names below localhost this machine.
const LOCALHOST: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/outside/official_client/localhost"
);

/// The client's own test against a live server.
const LIVE: &str = "tests/test_sandbox_live.py";

/// Where a server's development authority is in its data directory.
const CA: &str = "tls/ca.crt";

/// A server that shows its previews over TLS.
const HTTPS: &str = "\
    [server]\nlisten_https = \"127.0.0.1:0\"\n\
    [tls]\ndevelopment_ca = true\n\
    [preview]\nscheme = \"https\"\n";

pub(crate) fn basics(rig: &Rig) {
    for package in [NEWEST, OLDEST] {
        works(&rig.api(), package, BASICS);
    }
}

pub(crate) fn streams_and_apps(rig: &Rig) {
    for package in [NEWEST, OLDEST] {
        works(&rig.api(), package, STREAMS_AND_APPS);
    }
}

/// A template of a tenant's own, made of the spec of one of the platform's that
/// is built already: steps that are the same do not run again.
pub(crate) fn templates(api: &Api, platform: &Value) {
    let mut command = python(&environment(NEWEST), api);
    command.env("PLATFORM_TEMPLATE", platform.to_string());
    let said = output(command.args(["-c", TEMPLATES]));
    assert!(said.starts_with("all well"), "{said}");
    assert_eq!(api.live(), Vec::<String>::new());
}

pub(crate) fn their_own_test(rig: &Rig) {
    let environment = environment(NEWEST);
    let source = environment.join("source");
    if !source.exists() {
        // Never kept in this repository: it is not ours.
        run(Command::new(environment.join("bin/pip"))
            .args(["download", "--quiet", "--no-deps", "--no-binary", ":all:"])
            .args([NEWEST, "--dest"])
            .arg(&environment));
        let archive = environment.join(format!("{}.tar.gz", NEWEST.replace("==", "-")));
        let unpacked = environment.join("unpacked");
        fs::create_dir_all(&unpacked).unwrap();
        run(Command::new("tar")
            .args(["--strip-components=1", "-xzf"])
            .arg(archive)
            .arg("-C")
            .arg(&unpacked));
        fs::rename(unpacked, &source).unwrap();
    }
    let server = Server::start_with(&rig.binary, HTTPS);
    let api = server.api();
    let mut command = python(&environment, &api);
    command
        .args([
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--noconftest",
            LIVE,
        ])
        .env("SSL_CERT_FILE", server.data_dir().join(CA))
        .current_dir(source);
    let said = output(&mut command);
    assert!(said.contains("2 passed"), "{said}");
    assert_eq!(api.live(), Vec::<String>::new());
    server.finish().unwrap();
}

/// That a script goes through with this version of the client.
fn works(api: &Api, package: &str, script: &str) {
    let mut command = python(&environment(package), api);
    let said = output(command.args(["-c", script]));
    assert!(said.starts_with("all well"), "{package}: {said}");
    assert_eq!(api.live(), Vec::<String>::new());
}

/// What a script says with this version of the client.
pub(crate) fn said(api: &Api, package: &str, script: &str) -> String {
    output(python(&environment(package), api).args(["-c", script]))
}

/// An interpreter that has the client and knows the server.
fn python(environment: &Path, api: &Api) -> Command {
    let mut command = Command::new(environment.join("bin/python"));
    command
        .env("MIOSA_BASE_URL", format!("{}/api/v1", api.url))
        .env("MIOSA_API_KEY", &api.key)
        .env("PYTHONPATH", LOCALHOST)
        .env_remove("MIOSA_ACCESS_TOKEN")
        .env_remove("MIOSA_TENANT")
        // The server is on this machine, whatever the environment says.
        .env("NO_PROXY", "*");
    command
}

/// What a program says that ends well.
#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    stdout.into_owned()
}

/// A virtual environment with a package, made once per version.
pub(crate) fn environment(package: &str) -> PathBuf {
    let name = format!("{}-environment", package.replace("==", "-"));
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Written last: what is half made is made again.
    let complete = directory.join("complete");
    if !complete.exists() {
        let _ = fs::remove_dir_all(&directory);
        run(Command::new("python3").args(["-m", "venv"]).arg(&directory));
        run(Command::new(directory.join("bin/pip"))
            .args(["install", "--quiet", package])
            .args(BESIDES));
        File::create(complete).unwrap();
    }
    directory
}

#[track_caller]
fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
