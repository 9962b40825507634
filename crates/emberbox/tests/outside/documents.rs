//! The documents for users: every command in them works, in the order they
//! stand there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::catalog;
use crate::rig::api::Api;
use crate::rig::server::{NONE_PREPARED, Server};
use crate::rig::{Rig, eventually_within};

/// Longest until a build has come as far as to its second step.
const STEPS: Duration = Duration::from_secs(300);

pub(crate) fn previews(rig: &Rig) {
    run(rig, "previews.md");
}

pub(crate) fn terminal(rig: &Rig) {
    run(rig, "terminal.md");
}

pub(crate) fn snapshots(rig: &Rig) {
    run(rig, "snapshots.md");
}

/// The server is killed in the middle of the first build.
pub(crate) fn templates(rig: &Rig) {
    let mut server = Server::start_in_place(&rig.binary, NONE_PREPARED);
    let api = server.api();
    let script = Script::begin(rig, &api, "templates.md");
    let build = eventually_within(STEPS, "the first build is queued", || {
        let builds = api.get("/sandbox-templates/hello/builds");
        let builds = (builds.status == 200).then(|| builds.ok(200))?;
        Some(builds["data"][0]["id"].as_str()?.to_owned())
    });
    let log = format!("/sandbox-template-builds/{build}/logs");
    // Whether each step need not run, once the second has begun.
    let cached = |api: &Api| {
        eventually_within(STEPS, "the second step runs", || {
            let log = api.get(&log).ok(200)["data"].clone();
            let events = log.as_array().unwrap().iter();
            let steps = events.filter(|event| event["event"] == "step");
            let cached: Vec<_> = steps.map(|step| step["cached"].clone()).collect();
            (cached.len() == 2).then_some(cached)
        })
    };
    assert_eq!(cached(&api), [false, false]);
    server.kill_9();
    server.restart();
    assert_eq!(cached(&api), [true, false], "the first step ran again");
    let said = script.end(&api);
    let words = said.split_whitespace();
    let images: BTreeSet<_> = words.filter(|word| word.starts_with("built-")).collect();
    assert_eq!(images.len(), 2, "{said}");
    for image in images {
        catalog::image_goes(image);
    }
    server.finish().unwrap();
}

/// Runs what stands between "```sh" and "```", as one script.
fn run(rig: &Rig, name: &'static str) {
    let api = rig.api();
    Script::begin(rig, &api, name).end(&api);
}

/// A document's commands under way.
struct Script {
    name: &'static str,
    child: Child,
    directory: TempDir,
}

impl Script {
    fn begin(rig: &Rig, api: &Api, name: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs")
            .join(name);
        let text = fs::read_to_string(&path).unwrap();
        let script = commands(&text);
        assert!(script.lines().count() > 10, "{name} has no commands");
        let directory = tempfile::tempdir().unwrap();
        let (bin, work) = (directory.path().join("bin"), directory.path().join("work"));
        fs::create_dir(&bin).unwrap();
        fs::create_dir(&work).unwrap();
        symlink(&rig.binary, bin.join("emberbox")).unwrap();
        let path = std::env::var("PATH").unwrap();
        let said = File::create(directory.path().join("said")).unwrap();
        let child = Command::new("bash")
            .args(["-euxo", "pipefail", "-c", &script])
            .current_dir(work)
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("EMBERBOX_URL", &api.url)
            .env("EMBERBOX_API_KEY", &api.key)
            // The server is on this machine, whatever the environment says.
            .env("NO_PROXY", "*")
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        Self {
            name,
            child,
            directory,
        }
    }

    /// What it said.
    fn end(mut self, api: &Api) -> String {
        let status = self.child.wait().unwrap();
        let said = fs::read_to_string(self.directory.path().join("said")).unwrap();
        assert!(status.success(), "{}:\n{said}", self.name);
        let live = api.live();
        assert_eq!(live, Vec::<String>::new(), "{} leaves some", self.name);
        said
    }
}

impl Drop for Script {
    /// After a failure elsewhere: what it waits for does not come.
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            let said = fs::read_to_string(self.directory.path().join("said"));
            eprintln!("{}:\n{}", self.name, said.unwrap_or_default());
        }
    }
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
