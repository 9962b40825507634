//! Upload, download, list, stat.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use emberbox_api::FileType;
use emberbox_control::Settings;
use emberbox_core::Limits;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::rig::{Rig, answer};

const LIMIT: u64 = 300_000;

async fn rig() -> (Rig, String) {
    let limits = Limits {
        max_upload_bytes: LIMIT,
        ..Limits::default()
    };
    let rig = Rig::with(Settings {
        limits,
        ..Settings::default()
    })
    .await;
    let id = rig.sandbox().await.id.to_string();
    (rig, id)
}

fn upload(rig: &Rig, id: &str) -> reqwest::RequestBuilder {
    rig.request("POST", &format!("/sandboxes/{id}/files"))
}

/// Bytes that no text transport survives, and more than a few pieces.
fn content(len: u64) -> Vec<u8> {
    (0..len).map(|i| (i * i / 7) as u8).collect()
}

/// What a failed upload must not leave: anything.
fn names(rig: &Rig, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(rig.path(dir)).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_every_order_arrives_byte_for_byte() {
    let (rig, id) = rig().await;
    for len in [0, 1, 2, 3, 1000, LIMIT] {
        let bytes = content(len);
        let base64 = STANDARD.encode(&bytes);
        let path = rig.path(&format!("made/parents/{len}"));
        let bodies = [
            format!(r#"{{"path":"{path}","content":"{base64}"}}"#),
            format!(r#"{{"content":"{base64}","x":{{"y":[1]}},"path":"{path}"}} "#),
            format!(
                r#"{{"path":"{path}","content":"{}"}}"#,
                base64.replace('/', "\\/")
            ),
            format!(
                r#"{{"path":"{path}","content":"{}"}}"#,
                base64.trim_end_matches('=')
            ),
        ];
        for body in bodies {
            let (status, _, answer) = answer(upload(&rig, &id).body(body)).await;
            assert_eq!(status, 200, "{answer}");
            assert_eq!(
                answer["data"],
                json!({"sandbox_id": id, "path": path, "size": len})
            );
            assert_eq!(fs::read(&path).unwrap(), bytes);
            fs::remove_file(&path).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn multipart_of_every_order_arrives_byte_for_byte() {
    let (rig, id) = rig().await;
    let bytes = content(LIMIT);
    let file = || Part::bytes(bytes.clone()).file_name("x.bin");
    let path = rig.path("m/x.bin");
    let forms = [
        Form::new().text("path", path.clone()).part("file", file()),
        Form::new()
            .text("other", "z")
            .part("file", file())
            .text("path", path.clone()),
    ];
    for form in forms {
        let (status, _, answer) = answer(upload(&rig, &id).multipart(form)).await;
        assert_eq!(
            (status, &answer["data"]["size"]),
            (200, &json!(LIMIT)),
            "{answer}"
        );
        assert_eq!(fs::read(&path).unwrap(), bytes);
        fs::remove_file(&path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_too_many_is_refused_and_nothing_written() {
    let (rig, id) = rig().await;
    fs::create_dir(rig.path("full")).unwrap();
    let path = rig.path("full/x");
    for extra in [1, 200_000, 5_000_000] {
        let bytes = content(LIMIT + extra);
        let base64 = STANDARD.encode(&bytes);
        let json = |order: bool| {
            let (path, content) = (
                format!(r#""path":"{path}""#),
                format!(r#""content":"{base64}""#),
            );
            if order {
                format!("{{{path},{content}}}")
            } else {
                format!("{{{content},{path}}}")
            }
        };
        let form = Form::new()
            .text("path", path.clone())
            .part("file", Part::bytes(bytes.clone()));
        let late = Form::new()
            .part("file", Part::bytes(bytes.clone()))
            .text("path", path.clone());
        for request in [
            upload(&rig, &id).body(json(true)),
            upload(&rig, &id).body(json(false)),
            upload(&rig, &id).multipart(form),
            upload(&rig, &id).multipart(late),
        ] {
            let (status, code, _) = answer(request).await;
            assert_eq!((status, code.as_str()), (413, "FILE_TOO_LARGE"), "{extra}");
        }
    }
    rig.client.exec(&id, &exec_true()).await.unwrap();
    assert!(names(&rig, "full").is_empty(), "{:?}", names(&rig, "full"));
}

fn exec_true() -> emberbox_api::ExecRequest {
    emberbox_api::ExecRequest {
        command: "true".to_owned(),
        cwd: Some("/".to_owned()),
        ..emberbox_api::ExecRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_uploads_are_refused() {
    let (rig, id) = rig().await;
    fs::create_dir(rig.path("dir")).unwrap();
    fs::write(rig.path("file"), "x").unwrap();
    let big = "x".repeat(100_000);
    let body = |value: Value| value.to_string();
    for (body, status, code) in [
        (
            body(json!({"path": "relative", "content": "eA=="})),
            422,
            "INVALID_PATH",
        ),
        (
            body(json!({"path": "", "content": "eA=="})),
            422,
            "INVALID_PATH",
        ),
        (
            body(json!({"path": "/a\u{0}b", "content": "eA=="})),
            422,
            "INVALID_PATH",
        ),
        (
            body(json!({"path": format!("/{}", "x".repeat(5000)), "content": "eA=="})),
            422,
            "INVALID_PATH",
        ),
        (
            body(json!({"path": rig.path("b64"), "content": "%%%"})),
            422,
            "VALIDATION_ERROR",
        ),
        (
            body(json!({"path": rig.path("b64"), "content": "eA==eA=="})),
            422,
            "VALIDATION_ERROR",
        ),
        (
            body(json!({"path": rig.path("b64"), "content": 5})),
            422,
            "VALIDATION_ERROR",
        ),
        (
            body(json!({"path": 5, "content": "eA=="})),
            422,
            "VALIDATION_ERROR",
        ),
        (body(json!({"content": "eA=="})), 422, "VALIDATION_ERROR"),
        (
            body(json!({"path": rig.path("b64")})),
            422,
            "VALIDATION_ERROR",
        ),
        (
            body(json!({"path": rig.path("dir"), "content": "eA=="})),
            400,
            "IS_A_DIRECTORY",
        ),
        (
            body(json!({"path": rig.path("file/x"), "content": "eA=="})),
            400,
            "NOT_A_DIRECTORY",
        ),
        (
            body(json!({"padding": big, "path": rig.path("b64"), "content": "eA=="})),
            413,
            "BODY_TOO_LARGE",
        ),
        (body(json!([])), 422, "VALIDATION_ERROR"),
        (
            format!(r#"{{"path":"{}","content":"eHh4"#, rig.path("b64")),
            400,
            "INVALID_JSON",
        ),
        (
            format!(r#"{{"path":"{}","content":"eHh4"}} x"#, rig.path("b64")),
            400,
            "INVALID_JSON",
        ),
        ("nope".to_owned(), 400, "INVALID_JSON"),
        (String::new(), 400, "INVALID_JSON"),
    ] {
        let (got, named, answer) = answer(upload(&rig, &id).body(body.clone())).await;
        let start = &body[..body.len().min(80)];
        assert_eq!((got, named.as_str()), (status, code), "{start}: {answer}");
    }
    let form = Form::new().text("path", rig.path("b64"));
    let (status, code, _) = answer(upload(&rig, &id).multipart(form)).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
    let broken = upload(&rig, &id)
        .header("content-type", "multipart/form-data; boundary=x")
        .body("--x\r\nnonsense");
    let (status, code, _) = answer(broken).await;
    assert_eq!((status, code.as_str()), (400, "INVALID_MULTIPART"));
    rig.client.exec(&id, &exec_true()).await.unwrap();
    let mut left = names(&rig, ".");
    left.retain(|name| !name.starts_with("db"));
    left.sort();
    assert_eq!(left, ["dir", "file"]);
    assert_eq!(fs::read_to_string(rig.path("file")).unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads() {
    let (rig, id) = rig().await;
    let bytes = content(1_000_000);
    fs::write(rig.path("a b#c.json"), &bytes).unwrap();
    fs::write(rig.path("empty"), "").unwrap();
    let path = rig.path("a b#c.json");
    let plain = path
        .trim_start_matches('/')
        .replace(' ', "%20")
        .replace('#', "%23");
    for encoded in [plain.clone(), plain.replace('/', "%2F")] {
        let request = rig.request("GET", &format!("/sandboxes/{id}/files/{encoded}"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["content-type"],
            "application/octet-stream"
        );
        assert_eq!(response.headers()["content-length"], "1000000");
        assert!(response.headers().contains_key("x-request-id"));
        assert!(response.bytes().await.unwrap() == bytes);
    }
    let empty = rig.client.download(&id, &rig.path("empty")).await.unwrap();
    assert_eq!(empty.length(), Some(0));
    assert!(empty.bytes().await.unwrap().is_empty());
    // No length is known, and yet something is there.
    let proc = rig.client.download(&id, "/proc/self/status").await.unwrap();
    assert!(proc.bytes().await.unwrap().starts_with(b"Name:"));
    for (path, status, code) in [
        ("no/such/file", 404, "FILE_NOT_FOUND"),
        ("etc", 400, "IS_A_DIRECTORY"),
        ("a%00b", 422, "INVALID_PATH"),
        ("%ff", 422, "INVALID_PATH"),
        ("stat", 404, "FILE_NOT_FOUND"),
    ] {
        let (got, named, _) =
            answer(rig.request("GET", &format!("/sandboxes/{id}/files/{path}"))).await;
        assert_eq!((got, named.as_str()), (status, code), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_stats() {
    let (rig, id) = rig().await;
    fs::create_dir_all(rig.path("tree/sub")).unwrap();
    fs::write(rig.path("tree/index.html"), "x".repeat(128)).unwrap();
    fs::write(rig.path("tree/sub/deep"), "").unwrap();
    let listing = rig.client.list_files(&id, &rig.path("tree")).await.unwrap();
    assert_eq!(listing.path, rig.path("tree"));
    let shown: Vec<_> = listing
        .entries
        .iter()
        .map(|entry| (entry.name.as_str(), entry.is_dir))
        .collect();
    assert_eq!(shown, [("index.html", false), ("sub", true)]);
    assert_eq!(listing.entries[0].path, rig.path("tree/index.html"));
    assert_eq!(listing.entries[0].size, 128);
    let query = format!("/sandboxes/{id}/files?path={}&depth=2", rig.path("tree"));
    let (_, _, deep) = answer(rig.request("GET", &query)).await;
    assert_eq!(deep["data"]["entries"].as_array().unwrap().len(), 3);

    let stat = rig
        .client
        .stat(&id, &rig.path("tree/index.html"))
        .await
        .unwrap();
    assert_eq!(
        (stat.size, stat.kind, stat.name.as_str()),
        (128, FileType::File, "index.html")
    );
    assert!(
        rig.client
            .stat(&id, &rig.path("tree"))
            .await
            .unwrap()
            .is_dir
    );

    for (path, status, code) in [
        ("relative", 422, "INVALID_PATH"),
        ("", 422, "INVALID_PATH"),
        ("/no/such", 404, "FILE_NOT_FOUND"),
        ("/etc/passwd", 400, "NOT_A_DIRECTORY"),
    ] {
        let url = format!("/sandboxes/{id}/files?path={path}");
        let (got, named, _) = answer(rig.request("GET", &url)).await;
        assert_eq!((got, named.as_str()), (status, code), "list {path}");
    }
    for (body, status, code) in [
        (json!({"path": "relative"}), 422, "INVALID_PATH"),
        (json!({}), 422, "INVALID_PATH"),
        (json!({"path": "/no/such"}), 404, "FILE_NOT_FOUND"),
        (json!({"path": 1}), 422, "VALIDATION_ERROR"),
    ] {
        let url = format!("/sandboxes/{id}/files/stat");
        let (got, named, _) = answer(rig.request("POST", &url).json(&body)).await;
        assert_eq!((got, named.as_str()), (status, code), "stat {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_in_one_request() {
    let (rig, id) = rig().await;
    for route in ["write-many", "batch"] {
        let many = rig.request("POST", &format!("/sandboxes/{id}/files/{route}"));
        let (a, b) = (rig.path(&format!("{route}/a")), rig.path("blocked/b"));
        fs::create_dir_all(&b).unwrap();
        let body = json!({"files": [
            {"path": a, "content_base64": STANDARD.encode("one")},
            {"path": b, "content": ""},
            {"path": format!("{a}.empty"), "content": ""},
        ]});
        let (status, _, answer) = answer(many.json(&body)).await;
        assert_eq!(status, 200, "{answer}");
        let done = &answer["data"];
        assert_eq!(
            done["written"],
            json!([{"path": a, "size_bytes": 3}, {"path": format!("{a}.empty"), "size_bytes": 0}])
        );
        assert_eq!(done["failed"][0]["path"], b);
        assert_eq!(done["failed"][0]["code"], "IS_A_DIRECTORY");
        assert_eq!(fs::read_to_string(&a).unwrap(), "one");
    }
    let many = |body: Value| {
        let request = rig.request("POST", &format!("/sandboxes/{id}/files/write-many"));
        answer(request.json(&body))
    };
    let good = rig.path("untouched");
    let body = json!({"files": [
        {"path": good, "content": "b25l"},
        {"path": "relative", "content": "b25l"},
        {"path": good, "content_base64": "!"},
        {"path": good},
    ]});
    let (status, code, refused) = many(body).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
    let fields = refused["error"]["details"].as_array().unwrap().iter();
    let fields: Vec<_> = fields.map(|error| error["field"].clone()).collect();
    assert_eq!(
        fields,
        [
            "files[1].path",
            "files[2].content_base64",
            "files[3].content_base64"
        ]
    );
    assert!(!fs::exists(good).unwrap(), "a bad request writes nothing");
    assert_eq!(many(json!({"files": []})).await.0, 422);
    assert_eq!(many(json!({})).await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_nested_and_as_deep_as_asked_for() {
    let (rig, id) = rig().await;
    fs::create_dir_all(rig.path("top/a/b/c/d")).unwrap();
    fs::write(rig.path("top/z"), "12345").unwrap();
    let tree =
        |query: String| answer(rig.request("GET", &format!("/sandboxes/{id}/files/tree?{query}")));
    let (status, _, body) = tree(format!("path={}", rig.path("top"))).await;
    assert_eq!(status, 200, "{body}");
    let top = &body["data"];
    assert_eq!((&top["name"], &top["type"]), (&json!("top"), &json!("dir")));
    let children = &top["children"];
    assert_eq!(children[0]["name"], "a");
    assert_eq!(
        (
            &children[1]["name"],
            &children[1]["type"],
            &children[1]["size"]
        ),
        (&json!("z"), &json!("file"), &json!(5))
    );
    let third = &children[0]["children"][0]["children"][0];
    assert_eq!(
        (&third["name"], &third["children"]),
        (&json!("c"), &json!([]))
    );
    let (_, _, body) = tree(format!("path={}&depth=1", rig.path("top"))).await;
    assert_eq!(body["data"]["children"][0]["children"], json!([]));
    let (status, code, _) = tree(format!("path={}", rig.path("none"))).await;
    assert_eq!((status, code.as_str()), (404, "FILE_NOT_FOUND"));
    let (status, _, _) = tree("path=/tmp&depth=99".to_owned()).await;
    assert_eq!(status, 422);
}
