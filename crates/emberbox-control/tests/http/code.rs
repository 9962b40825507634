//! Interpreters that keep their variables.

use serde_json::{Value, json};

use crate::rig::{Rig, answer};

struct Interpreter {
    rig: Rig,
    base: String,
}

impl Interpreter {
    async fn new() -> Self {
        let rig = Rig::new().await;
        let base = format!("/sandboxes/{}/code", rig.sandbox().await.id);
        Self { rig, base }
    }

    async fn post(&self, body: Value) -> (u16, String, Value) {
        let path = format!("{}/run", self.base);
        answer(self.rig.request("POST", &path).json(&body)).await
    }

    async fn run(&self, body: Value) -> Value {
        let (status, _, answer) = self.post(body).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"].clone()
    }

    async fn contexts(&self, language: &str) -> Value {
        let path = format!("{}/contexts?language={language}", self.base);
        let (_, _, body) = answer(self.rig.request("GET", &path)).await;
        body["data"]["contexts"].clone()
    }

    async fn delete(&self, rest: &str) -> u16 {
        let path = format!("{}{rest}", self.base);
        let response = self.rig.request("DELETE", &path).send().await.unwrap();
        response.status().as_u16()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_keeps_its_names_and_tells_its_last_value() {
    let python = Interpreter::new().await;
    let first = "import os, sys\nx = 20\nprint('out')\nprint('err', file=sys.stderr)\nx + 1";
    let said = python.run(json!({"code": first})).await;
    assert_eq!(
        (&said["ok"], &said["result"]),
        (&json!(true), &json!(21)),
        "{said}"
    );
    assert_eq!(
        (&said["stdout"], &said["stderr"]),
        (&json!("out\n"), &json!("err\n"))
    );
    assert_eq!(
        (&said["language"], &said["context"]),
        (&json!("python"), &json!("default"))
    );
    // What is below Python's own streams is caught as well.
    let shelled = python
        .run(json!({"code": "os.system('echo shell'); x = x * 2"}))
        .await;
    assert_eq!(
        (&shelled["stdout"], &shelled["result"]),
        (&json!("shell\n"), &Value::Null)
    );
    assert_eq!(
        python.run(json!({"code": "{'x': [x, None]}"})).await["result"],
        json!({"x": [40, null]})
    );
    let odd = python.run(json!({"code": "object"})).await;
    assert_eq!(odd["result"], "<class 'object'>");

    let failed = python
        .run(json!({"code": "def f():\n    return 1 / 0\nf()"}))
        .await;
    assert_eq!(failed["ok"], false);
    let complaint = failed["stderr"].as_str().unwrap();
    assert!(complaint.contains("ZeroDivisionError") && complaint.contains("return 1 / 0"));
    assert!(
        !complaint.contains("<string>"),
        "the driver shows in {complaint}"
    );
    for bad in ["x = (", "raise SystemExit(3)", "import no_such_module"] {
        assert_eq!(python.run(json!({"code": bad})).await["ok"], false, "{bad}");
    }
    assert_eq!(python.run(json!({"code": "x"})).await["result"], 40);

    let elsewhere = python
        .run(json!({"code": "'x' in globals()", "context": "other"}))
        .await;
    assert_eq!(elsewhere["result"], false);
    assert_eq!(python.contexts("python").await, json!(["default", "other"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_keeps_its_names_and_waits_for_promises() {
    let node = Interpreter::new().await;
    let run = |code: &str| {
        let body = json!({"code": code, "language": "javascript"});
        node.run(body)
    };
    let said =
        run("const x = 20; let y = [x]; console.log('out'); console.error('err'); x + 1").await;
    assert_eq!(
        (&said["ok"], &said["result"]),
        (&json!(true), &json!(21)),
        "{said}"
    );
    assert_eq!(
        (&said["stdout"], &said["stderr"]),
        (&json!("out\n"), &json!("err\n"))
    );
    assert_eq!(run("y.push(1); y").await["result"], json!([20, 1]));
    assert_eq!(
        run("new Promise(done => setTimeout(() => done(x), 10))").await["result"],
        20
    );
    assert_eq!(run("require('path').join('a', 'b')").await["result"], "a/b");
    let failed = run("nobody()").await;
    assert_eq!(failed["ok"], false);
    assert!(
        failed["stderr"]
            .as_str()
            .unwrap()
            .contains("ReferenceError"),
        "{failed}"
    );
    assert_eq!(run("undefined").await["result"], Value::Null);
    assert_eq!(node.contexts("javascript").await, json!(["default"]));
    assert_eq!(node.contexts("python").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_over_its_time_loses_its_context_only() {
    let python = Interpreter::new().await;
    python.run(json!({"code": "x = 1"})).await;
    python
        .run(json!({"code": "x = 2", "context": "other"}))
        .await;
    let (status, code, _) = python
        .post(json!({"code": "while True: pass", "timeout": 1}))
        .await;
    assert_eq!((status, code.as_str()), (504, "EXEC_TIMEOUT"));
    assert_eq!(python.contexts("python").await, json!(["other"]));
    assert_eq!(
        python.run(json!({"code": "'x' in globals()"})).await["result"],
        false
    );
    assert_eq!(
        python.run(json!({"code": "x", "context": "other"})).await["result"],
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_bounded_and_noise_is_no_answer() {
    let python = Interpreter::new().await;
    let much = python.run(json!({"code": "print('x' * 1_000_000)"})).await;
    assert_eq!(
        (&much["ok"], &much["truncated"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(much["stdout"].as_str().unwrap().len(), 256 * 1024);
    let long = python.run(json!({"code": "'y' * 1_000_000"})).await;
    assert!(long["result"].as_str().unwrap().len() <= 64 * 1024);
    // Forged answers on the driver's own channel.
    let forge = "import os\nfor fd in range(3, 10):\n  try: os.write(fd, b'{\"id\":\"x\"}\\nnoise')\n  except OSError: pass\n7";
    assert_eq!(python.run(json!({"code": forge})).await["result"], 7);
    let died = python.run(json!({"code": "os._exit(5)"})).await;
    assert_eq!(died["ok"], false);
    assert!(
        died["stderr"].as_str().unwrap().contains("code 5"),
        "{died}"
    );
    assert_eq!(python.run(json!({"code": "1"})).await["result"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_end_when_asked_and_outlive_the_server() {
    let python = Interpreter::new().await;
    python.run(json!({"code": "x = 5"})).await;
    python.run(json!({"code": "x = 6", "context": "b"})).await;
    python
        .run(json!({"code": "1", "language": "javascript"}))
        .await;
    let python = Interpreter {
        rig: python.rig.crash_and_restart().await,
        base: python.base,
    };
    assert_eq!(python.run(json!({"code": "x"})).await["result"], 5);
    assert_eq!(python.delete("/contexts/b").await, 204);
    assert_eq!(python.delete("/contexts/b").await, 404);
    assert_eq!(python.contexts("python").await, json!(["default"]));
    assert_eq!(python.delete("?language=javascript").await, 204);
    assert_eq!(python.contexts("javascript").await, json!([]));
    assert_eq!(python.contexts("python").await, json!(["default"]));
    assert_eq!(python.delete("").await, 204);
    assert_eq!(python.contexts("python").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_cells_are_refused_by_name() {
    let python = Interpreter::new().await;
    for (body, field) in [
        (json!({}), "code"),
        (json!({"code": " "}), "code"),
        (json!({"code": "x".repeat(256 * 1024 + 1)}), "code"),
        (json!({"code": "1", "language": "cobol"}), "language"),
        (json!({"code": "1", "context": ""}), "context"),
        (json!({"code": "1", "context": "a:b"}), "context"),
        (json!({"code": "1", "context": "x".repeat(65)}), "context"),
        (json!({"code": "1", "timeout": 0}), "timeout"),
        (json!({"code": "1", "timeout": 301}), "timeout"),
        (json!({"code": 1}), "code"),
    ] {
        let (status, code, answer) = python.post(body.clone()).await;
        assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"), "{body}");
        assert_eq!(answer["error"]["details"][0]["field"], field, "{answer}");
    }
    assert_eq!(python.delete("?language=x").await, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_of_one_context_stand_in_line() {
    let python = Interpreter::new().await;
    let cell = "import time\nn = globals().get('n', 0) + 1\ntime.sleep(0.05)\nn";
    let cells = (0..6).map(|_| python.run(json!({ "code": cell })));
    let said = futures_util::future::join_all(cells).await;
    let mut results: Vec<_> = said
        .iter()
        .map(|said| said["result"].as_u64().unwrap())
        .collect();
    results.sort_unstable();
    assert_eq!(results, [1, 2, 3, 4, 5, 6]);
    // One that ran over its time leaves the line too.
    let (status, code, _) = python
        .post(json!({ "code": "time.sleep(60)", "timeout": 1 }))
        .await;
    assert_eq!((status, code.as_str()), (504, "EXEC_TIMEOUT"));
    assert_eq!(python.run(json!({ "code": "1" })).await["result"], 1);
}
