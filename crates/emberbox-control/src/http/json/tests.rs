use emberbox_api::{CreateSandbox, ErrorCode, ExecRequest};
use serde_json::json;

use super::parse;

#[test]
fn what_is_not_json_is_invalid_json() {
    for body in ["{", "nope", "{\"a\":}", "{} x", "{\"name\":\"x\"", "\u{0}"] {
        let failure = parse::<CreateSandbox>(body.as_bytes()).unwrap_err();
        assert_eq!(failure.code, ErrorCode::InvalidJson, "{body}");
    }
}

#[test]
fn a_wrong_type_names_its_path() {
    for (body, field) in [
        (r#"{"cpu_count":"two"}"#, "cpu_count"),
        (r#"{"cpu_count":1.5}"#, "cpu_count"),
        (r#"{"env":{"A":1}}"#, "env.A"),
        (r#"{"tags":["a",2]}"#, "tags[1]"),
        (r#"{"metadata":[]}"#, "metadata"),
        ("[]", "body"),
        ("\"x\"", "body"),
        ("null", "body"),
    ] {
        let failure = parse::<CreateSandbox>(body.as_bytes()).unwrap_err();
        assert_eq!(failure.code, ErrorCode::ValidationError, "{body}");
        let details = failure.details.unwrap();
        assert_eq!(details[0]["field"], json!(field), "{body}");
    }
}

#[test]
fn unknown_fields_nulls_and_no_body_are_fine() {
    for body in ["", "  ", "{}", r#"{"new_field":{"x":1},"name":null}"#] {
        assert_eq!(
            parse::<CreateSandbox>(body.as_bytes()).unwrap(),
            CreateSandbox::default(),
            "{body}"
        );
    }
    assert_eq!(parse::<ExecRequest>(b"").unwrap().command, "");
}
