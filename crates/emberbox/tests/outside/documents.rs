//! The documents for users: every command in them works, in the order they
//! stand there.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rig::Rig;

pub(crate) fn previews(rig: &Rig) {
    run(rig, "previews.md");
}

pub(crate) fn terminal(rig: &Rig) {
    run(rig, "terminal.md");
}

pub(crate) fn snapshots(rig: &Rig) {
    run(rig, "snapshots.md");
}

/// Runs what stands between "```sh" and "```", as one script.
fn run(rig: &Rig, name: &str) {
    let api = rig.api();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    let text = fs::read_to_string(&path).unwrap();
    let script = commands(&text);
    assert!(script.lines().count() > 10, "{name} has no commands");
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(directory.path())
        .env("EMBERBOX_URL", &api.url)
        .env("EMBERBOX_API_KEY", &api.key)
        // The server is on this machine, whatever the environment says.
        .env("NO_PROXY", "*")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}:\n{stdout}\n{stderr}");
    assert_eq!(api.live(), Vec::<String>::new(), "{name} leaves sandboxes");
}

fn commands(text: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                script.push_str(line);
                script.push('\n');
            }
            _ => {}
        }
    }
    script
}
