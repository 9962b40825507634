//! A sandbox that does not outlive its test.

use serde_json::{Value, json};

use super::api::Api;
use super::eventually;

/// One sandbox; destroyed when dropped.
pub(crate) struct Sandbox<'a> {
    pub(crate) api: &'a Api,
    pub(crate) id: String,
    /// What the create answered.
    pub(crate) record: Value,
    destroyed: bool,
}

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) exit_code: i64,
}

impl Ran {
    /// A command that succeeded and had nothing to complain about.
    pub(crate) fn ok(stdout: &str) -> Self {
        Self {
            stdout: stdout.to_owned(),
            stderr: String::new(),
            exit_code: 0,
        }
    }
}

impl<'a> Sandbox<'a> {
    /// A running sandbox that lives longer than any test.
    pub(crate) fn new(api: &'a Api) -> Self {
        Self::with(api, &json!({ "timeout_sec": 3600 }))
    }

    /// A running sandbox as asked for.
    pub(crate) fn with(api: &'a Api, body: &Value) -> Self {
        let record = api.post("/sandboxes?wait=true", body).ok(201);
        let sandbox = Self::known(api, record);
        assert_eq!(sandbox.record["state"], "running", "{}", sandbox.record);
        sandbox
    }

    /// One that exists already.
    pub(crate) fn known(api: &'a Api, record: Value) -> Self {
        Self {
            api,
            id: record["id"].as_str().unwrap().to_owned(),
            record,
            destroyed: false,
        }
    }

    /// The path of something of this sandbox.
    pub(crate) fn at(&self, rest: &str) -> String {
        format!("/sandboxes/{}{rest}", self.id)
    }

    pub(crate) fn get(&self) -> Value {
        self.api.get(&self.at("")).ok(200)
    }

    #[track_caller]
    pub(crate) fn exec(&self, command: &str) -> Ran {
        self.exec_with(&json!({ "command": command }))
    }

    #[track_caller]
    pub(crate) fn exec_with(&self, body: &Value) -> Ran {
        let answer = self.api.post(&self.at("/exec"), body).ok(200);
        let data = &answer["data"];
        assert_eq!(data["sandbox_id"], self.id);
        Ran {
            stdout: data["stdout"].as_str().unwrap().to_owned(),
            stderr: data["stderr"].as_str().unwrap().to_owned(),
            exit_code: data["exit_code"].as_i64().unwrap(),
        }
    }

    /// What a command that succeeds says, without the line's end.
    #[track_caller]
    pub(crate) fn say(&self, command: &str) -> String {
        let ran = self.exec(command);
        assert_eq!((ran.exit_code, ran.stderr.as_str()), (0, ""), "{command}");
        ran.stdout.trim_end().to_owned()
    }

    /// Whether a process of the guest is there.
    pub(crate) fn has_process(&self, pid: &str) -> bool {
        self.exec(&format!("kill -0 {pid} 2>/dev/null")).exit_code == 0
    }

    #[track_caller]
    pub(crate) fn upload(&self, path: &str, content: &[u8]) {
        let answer = self.api.upload(&self.id, path, content).ok(200);
        assert_eq!(answer["data"]["size"], content.len(), "{answer}");
    }

    #[track_caller]
    pub(crate) fn stat(&self, path: &str) -> Value {
        let body = json!({ "path": path });
        let answer = self.api.post(&self.at("/files/stat"), &body).ok(200);
        answer["data"].clone()
    }

    /// That there is nothing of this name.
    #[track_caller]
    pub(crate) fn lacks(&self, path: &str) {
        let body = json!({ "path": path });
        let answer = self.api.post(&self.at("/files/stat"), &body);
        answer.refused(404, "FILE_NOT_FOUND");
    }

    /// Names in a directory, hidden ones too.
    #[track_caller]
    pub(crate) fn names_in(&self, directory: &str) -> Vec<String> {
        let said = self.say(&format!("ls -A {directory}"));
        said.lines().map(str::to_owned).collect()
    }

    /// Waits until it runs.
    pub(crate) fn runs(&self) -> Value {
        eventually(&format!("{} runs", self.id), || {
            let record = self.get();
            let state = record["state"].as_str().unwrap();
            assert!(matches!(state, "provisioning" | "running"), "{record}");
            (state == "running").then_some(record)
        })
    }

    /// Destroys it and says what that answered.
    pub(crate) fn destroy(mut self) -> Value {
        let answer = self.api.delete(&self.at("")).ok(200);
        self.destroyed = true;
        assert_eq!(answer["id"], self.id);
        assert_eq!(answer["state"], "destroyed");
        answer
    }

    /// Leaves it to somebody else.
    pub(crate) fn keep(mut self) -> String {
        self.destroyed = true;
        self.id.clone()
    }
}

impl Drop for Sandbox<'_> {
    fn drop(&mut self) {
        if !self.destroyed {
            // After a failure the server may be gone; the leak check tells.
            let _ = self.api.try_delete(&self.at(""));
        }
    }
}
