use emberbox_api::{ErrorCode, ExecRequest};
use emberbox_core::Limits;
use serde_json::{Value, json};

use super::{COMMAND_MAX, parse};

fn parsed(body: Value) -> Result<emberbox_guest::ExecSpec, crate::Failure> {
    parse(
        serde_json::from_value::<ExecRequest>(body).unwrap(),
        &Limits::default(),
    )
}

#[test]
fn defaults_are_the_references() {
    let spec = parsed(json!({"command": "true"})).unwrap();
    assert_eq!((spec.cwd.as_str(), spec.timeout_ms), ("/root", 30_000));
}

#[test]
fn both_names_of_directory_and_timeout() {
    let spec = parsed(json!({"command": "x", "cwd": "/a", "timeout_sec": 2})).unwrap();
    assert_eq!((spec.cwd.as_str(), spec.timeout_ms), ("/a", 2000));
    let spec = parsed(json!({"command": "x", "working_dir": "/b", "timeout": 300})).unwrap();
    assert_eq!((spec.cwd.as_str(), spec.timeout_ms), ("/b", 300_000));
}

#[test]
fn wrong_values_are_named() {
    for (body, field) in [
        (json!({}), "command"),
        (json!({"command": "  "}), "command"),
        (json!({"command": "a\u{0}"}), "command"),
        (json!({"command": "x".repeat(COMMAND_MAX + 1)}), "command"),
        (json!({"command": "x", "timeout": 301}), "timeout"),
        (json!({"command": "x", "timeout": 0}), "timeout"),
        (json!({"command": "x", "timeout_sec": -1}), "timeout_sec"),
        (json!({"command": "x", "cwd": "relative"}), "cwd"),
        (json!({"command": "x", "working_dir": ""}), "working_dir"),
        (json!({"command": "x", "env": {"A=": "1"}}), "env.A="),
        (
            json!({"command": "x", "env": {"A": "y".repeat(70_000)}}),
            "env",
        ),
    ] {
        let failure = parsed(body.clone()).unwrap_err();
        assert_eq!(failure.code, ErrorCode::ValidationError);
        assert_eq!(
            failure.details.unwrap()[0]["field"],
            json!(field),
            "{field}"
        );
    }
}
