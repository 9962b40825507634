use std::time::Duration;

use emberbox_api::{CreateSandbox, ErrorCode};
use emberbox_core::{Limits, Shape};
use emberbox_store::NewSandbox;
use serde_json::{Value, json};

use super::wait;
use crate::control::template::Bootable;
use crate::{Failure, Settings};

fn create(body: CreateSandbox, limits: &Limits) -> Result<NewSandbox, Failure> {
    let bootable = Bootable::of_platform(body.template_id.as_deref()).unwrap();
    super::create(body, bootable, limits)
}

fn request(body: Value) -> CreateSandbox {
    serde_json::from_value(body).unwrap()
}

fn fields(failure: &Failure) -> Vec<String> {
    let details = failure.details.clone().unwrap();
    let entries = details.as_array().unwrap().clone();
    entries
        .iter()
        .map(|entry| entry["field"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn nothing_asked_for_is_the_references_default() {
    let new = create(request(json!({})), &Limits::default()).unwrap();
    assert_eq!(new.shape, Shape::DEFAULT);
    assert_eq!(new.template_id, "miosa-sandbox");
    assert_eq!(new.image_id, "miosa-sandbox");
    assert_eq!(new.timeout_sec, 300);
}

#[test]
fn every_wrong_field_is_named() {
    let failure = create(
        request(json!({
            "cpu_count": 5, "memory_mb": -1, "disk_size_mb": 1_i64 << 40, "timeout_sec": 0,
            "idle_timeout_sec": -5, "name": "", "slug": "-x", "tags": ["ok", "a,b"],
            "env": {"": "x", "A=B": "y", "OK": "a\u{0}b"}, "workspace_id": "nope",
            "project_slug": "UPPER", "external_user_id": "a\nb",
        })),
        &Limits::default(),
    )
    .unwrap_err();
    assert_eq!(failure.code, ErrorCode::ValidationError);
    let mut named = fields(&failure);
    named.sort();
    assert_eq!(
        named,
        [
            "cpu_count",
            "disk_size_mb",
            "env.",
            "env.A=B",
            "env.OK",
            "external_user_id",
            "idle_timeout_sec",
            "memory_mb",
            "name",
            "project_slug",
            "slug",
            "tags[1]",
            "timeout_sec",
            "workspace_id",
        ]
    );
}

#[test]
fn sizes_stand_for_shapes_and_must_agree_with_numbers() {
    let limits = Limits {
        max_disk_mib: 20_480,
        ..Limits::default()
    };
    let medium = create(request(json!({"size": "medium"})), &limits).unwrap();
    assert_eq!((medium.shape.vcpus, medium.shape.memory_mib), (4, 8192));
    let agreed = json!({"size": "xs", "cpu_count": 1, "memory_mb": 2048, "disk_mb": 10_240});
    assert!(create(request(agreed), &limits).is_ok());
    let failure = create(request(json!({"size": "xs", "cpu_count": 2})), &limits).unwrap_err();
    assert_eq!(fields(&failure), ["cpu_count"]);
    let failure = create(request(json!({"size": "huge"})), &limits).unwrap_err();
    assert_eq!(fields(&failure), ["size"]);
    // Over the reference's caps.
    let failure = create(request(json!({"size": "medium"})), &Limits::default()).unwrap_err();
    assert_eq!(fields(&failure), ["disk_size_mb"]);
}

#[test]
fn two_names_of_the_disk_must_agree() {
    let limits = Limits::default();
    let same = create(
        request(json!({"disk_mb": 100, "disk_size_mb": 100})),
        &limits,
    )
    .unwrap();
    assert_eq!(same.shape.disk_mib, 100);
    let failure = create(
        request(json!({"disk_mb": 100, "disk_size_mb": 200})),
        &limits,
    )
    .unwrap_err();
    assert_eq!(fields(&failure), ["disk_size_mb"]);
}

#[test]
fn unknown_templates_and_known_aliases() {
    let limits = Limits::default();
    for id in ["nextjs", "python-3.12", "react-vite", "static", "gradio"] {
        let new = create(request(json!({"template_id": id})), &limits).unwrap();
        assert_eq!(
            (new.template_id.as_str(), new.image_id.as_str()),
            (id, "miosa-sandbox")
        );
    }
    assert!(Bootable::of_platform(Some("windows")).is_none());
}

#[test]
fn waits() {
    let settings = Settings::default();
    assert_eq!(wait(None, &settings).unwrap(), Duration::from_secs(5));
    assert_eq!(wait(Some("0"), &settings).unwrap(), Duration::ZERO);
    assert_eq!(wait(Some("false"), &settings).unwrap(), Duration::ZERO);
    assert_eq!(
        wait(Some("12"), &settings).unwrap(),
        Duration::from_secs(12)
    );
    assert_eq!(
        wait(Some("1e9"), &settings).unwrap(),
        Duration::from_secs(300)
    );
    for bad in ["-1", "soon", "NaN", "inf"] {
        assert!(wait(Some(bad), &settings).is_err(), "{bad}");
    }
}
