use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(value: &Value) -> Result<BuildSpec, Vec<SpecError>> {
    BuildSpec::parse(value, &BuildLimits::default())
}

/// Code and field of every error, in their order.
fn errors(value: &Value) -> Vec<(SpecErrorCode, String)> {
    let errors = parse(value).expect_err("an illegal spec");
    errors.into_iter().map(|e| (e.code, e.field)).collect()
}

fn reference_example() -> Value {
    json!({
        "from": "node:22-bookworm",
        "vcpu": 2,
        "memoryMib": 2048,
        "diskMib": 8192,
        "steps": [{"run": "corepack enable"}, {"workdir": "/workspace"}],
        "env": {"NODE_ENV": "development"},
        "workdir": "/workspace",
        "user": "root",
        "startCmd": "pnpm dev --host 0.0.0.0 --port 3000",
        "readyCmd": "curl -f http://127.0.0.1:3000",
        "previewPort": 3000,
        "artifactPaths": ["/workspace"]
    })
}

#[test]
fn the_reference_example_is_normal_already() {
    let spec = parse(&reference_example()).expect("a legal spec");
    assert_eq!(
        serde_json::to_value(spec).expect("JSON"),
        reference_example()
    );
}

#[test]
fn what_is_not_said_is_assumed() {
    let spec = parse(&json!({"from": "debian:bookworm", "startCmd": "", "env": null, "color": 1}))
        .expect("a legal spec");
    assert_eq!(
        serde_json::to_value(&spec).expect("JSON"),
        json!({
            "from": "debian:bookworm",
            "vcpu": 1,
            "memoryMib": 1024,
            "diskMib": 3072,
            "steps": [],
            "env": {},
            "workdir": "/workspace",
            "user": "root",
            "artifactPaths": ["/workspace"]
        })
    );
    assert_eq!(spec.shape(), Shape::DEFAULT);
}

#[test]
fn every_error_is_found_at_once() {
    use SpecErrorCode::*;
    let value = json!({
        "vcpu": 1.5,
        "memoryMib": 1_000_000,
        "diskMib": "large",
        "steps": [{"run": "true"}, {"copy": "a"}, {}, "run", {"workdir": "here", "env": {"A": 1}}],
        "env": {"A=B": "c"},
        "workdir": "workspace",
        "user": "root; rm",
        "startCmd": 7,
        "previewPort": 70_000,
        "artifactPaths": ["/ok", "out"]
    });
    let expected = [
        (Required, "from"),
        (InvalidInteger, "vcpu"),
        (OutOfRange, "memoryMib"),
        (InvalidInteger, "diskMib"),
        (InvalidStep, "steps.1"),
        (InvalidStep, "steps.2"),
        (InvalidStep, "steps.3"),
        (InvalidPath, "steps.4.workdir"),
        (InvalidStep, "steps.4.env.A"),
        (Required, "env.A=B"),
        (InvalidPath, "workdir"),
        (Required, "user"),
        (Required, "startCmd"),
        (InvalidPort, "previewPort"),
        (InvalidPath, "artifactPaths.1"),
    ];
    assert_eq!(
        errors(&value),
        expected.map(|(code, field)| (code, field.to_owned()))
    );
}

#[test]
fn one_wrong_field_is_the_only_error() {
    use SpecErrorCode::*;
    let long = "x".repeat(COMMAND_MAX + 1);
    let table = [
        ("from", json!(""), Required, "from"),
        ("from", json!(null), Required, "from"),
        ("from", json!(5), Required, "from"),
        ("from", json!("x".repeat(600)), OutOfRange, "from"),
        ("from", json!("Not An Image"), UnsupportedBaseImage, "from"),
        ("vcpu", json!(0), OutOfRange, "vcpu"),
        ("vcpu", json!(5), OutOfRange, "vcpu"),
        ("vcpu", json!(-1), OutOfRange, "vcpu"),
        ("vcpu", json!(1e300), OutOfRange, "vcpu"),
        ("vcpu", json!(u64::MAX), OutOfRange, "vcpu"),
        ("vcpu", json!(true), InvalidInteger, "vcpu"),
        ("memoryMib", json!("1024"), InvalidInteger, "memoryMib"),
        ("memoryMib", json!([1024]), InvalidInteger, "memoryMib"),
        ("diskMib", json!(10_241), OutOfRange, "diskMib"),
        ("steps", json!({}), InvalidStep, "steps"),
        ("steps", json!([{"run": ""}]), InvalidStep, "steps.0.run"),
        ("steps", json!([{"run": ["a"]}]), InvalidStep, "steps.0.run"),
        ("steps", json!([{"run": null}]), InvalidStep, "steps.0"),
        ("steps", json!([{"run": long}]), OutOfRange, "steps.0.run"),
        ("steps", json!([{"env": []}]), InvalidStep, "steps.0.env"),
        (
            "steps",
            json!(vec![json!({"run": "a"}); 65]),
            OutOfRange,
            "steps",
        ),
        ("env", json!([]), Required, "env"),
        ("env", json!({"A": "x".repeat(ENV_MAX)}), OutOfRange, "env"),
        ("workdir", json!(3), InvalidPath, "workdir"),
        ("workdir", json!("/a\0b"), InvalidPath, "workdir"),
        ("workdir", json!("x".repeat(5000)), InvalidPath, "workdir"),
        ("user", json!(""), Required, "user"),
        ("user", json!("a:b:c"), Required, "user"),
        ("readyCmd", json!("a\0"), Required, "readyCmd"),
        ("previewPort", json!(0), InvalidPort, "previewPort"),
        ("previewPort", json!(65_536), InvalidPort, "previewPort"),
        ("previewPort", json!("80"), InvalidInteger, "previewPort"),
        (
            "artifactPaths",
            json!("/workspace"),
            InvalidPath,
            "artifactPaths",
        ),
        (
            "artifactPaths",
            json!(vec!["/a"; 33]),
            OutOfRange,
            "artifactPaths",
        ),
    ];
    for (field, value, code, named) in table {
        let mut spec = reference_example();
        spec[field] = value.clone();
        assert_eq!(
            errors(&spec),
            [(code, named.to_owned())],
            "{field}: {}",
            value.to_string().chars().take(60).collect::<String>()
        );
    }
    assert_eq!(
        errors(&json!("spec")),
        [(Required, "build_spec".to_owned())]
    );
}

#[test]
fn a_step_may_say_all_three() {
    let step = json!({"run": "make", "workdir": "/src", "env": {"CC": "clang"}});
    let spec = parse(&json!({"from": "debian", "steps": [step]})).expect("a legal spec");
    assert_eq!(spec.steps[0].run.as_deref(), Some("make"));
    assert_eq!(spec.steps[0].workdir.as_deref(), Some("/src"));
}

#[test]
fn bases_by_name() {
    let accepted = [
        "debian",
        "debian:bookworm",
        "ubuntu:24.04",
        "node:22-bookworm",
        "python:3.12-slim",
        "python",
        "miosa-sandbox",
        "docker.io/library/debian:bookworm-slim",
        "localhost:5000/team/app:v1",
        "localhost/app",
        "127.0.0.1:5000/app",
        "ghcr.io/astral-sh/uv:0.5.1-python3.12-bookworm",
        "a/b/c__d/e---f.g",
        "alpine.example.com/debian",
        "team/scratchpad:1",
        "team/alpinist",
    ];
    for name in accepted {
        let image: BaseImage = name.parse().expect(name);
        assert_eq!(image.to_string(), name);
    }
    let digest = format!("debian:bookworm@sha256:{}", "0a".repeat(32));
    let image: BaseImage = digest.parse().expect("with a digest");
    assert_eq!(image.to_string(), digest);

    let refused = [
        ("alpine", "alpine"),
        ("alpine:3.20", "alpine"),
        ("docker.io/library/alpine", "alpine"),
        ("node:22-alpine", "alpine"),
        ("node:22-ALPINE", "alpine"),
        ("python:3.12-alpine3.20", "alpine"),
        ("frolvlad/alpine-glibc:latest", "alpine"),
        ("alpinelinux/docker-cli", "alpine"),
        ("gcr.io/distroless/nodejs22-debian12", "distroless"),
        ("team/distroless-base:nonroot", "distroless"),
        ("busybox:1.36", "busybox"),
        ("registry.example.com:5000/library/busybox", "busybox"),
        ("scratch", "scratch"),
    ];
    for (name, family) in refused {
        assert_eq!(
            name.parse::<BaseImage>(),
            Err(InvalidBaseImage::Unsupported(family)),
            "{name}"
        );
    }
    let digest = format!("alpine@sha256:{}", "0a".repeat(32));
    assert!(digest.parse::<BaseImage>().is_err());

    for name in [
        "",
        " debian",
        "Debian",
        "debian:",
        "debian@",
        "debian@sha256:12",
        "/debian",
        "debian/",
        "a//b",
        "-a",
        "a.",
        "a._b",
        "a___b",
        "a:b:c",
        "http://example.com/a",
        "example.com:99999/a",
        "example.com:+80/a",
        "-example.com/a",
        "../../etc/passwd",
        "a b",
        "a\nb",
        "débian",
    ] {
        assert_eq!(
            name.parse::<BaseImage>(),
            Err(InvalidBaseImage::NotAReference),
            "{name:?}"
        );
    }
}

#[test]
fn codes_have_the_references_names() {
    for code in SpecErrorCode::ALL {
        assert_eq!(serde_json::to_value(code).expect("JSON"), code.as_str());
    }
}

/// JSON with the fields of a spec in it, most of it nonsense.
fn nonsense() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        "[a-z0-9./:@_-]{0,24}",
        Just("/workspace".to_owned()),
        Just("debian:bookworm".to_owned()),
    ];
    let name = prop_oneof![
        proptest::sample::select(vec![
            "from",
            "vcpu",
            "memoryMib",
            "diskMib",
            "steps",
            "env",
            "workdir",
            "user",
            "startCmd",
            "readyCmd",
            "previewPort",
            "artifactPaths",
            "run",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..5000_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 48, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(name.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Legal specs of many forms.
fn legal() -> impl Strategy<Value = Value> {
    let step = prop_oneof![
        "[ -~]{1,20}[a-z]".prop_map(|run| json!({"run": run})),
        "/[a-z/]{0,10}".prop_map(|dir| json!({"workdir": dir})),
        "[A-Z_]{1,8}".prop_map(|name| json!({"env": {name: "value"}, "run": null})),
    ];
    (
        "[a-z]{3}(/[a-z0-9]{1,8})?(:[a-z0-9]{1,8})?",
        proptest::option::of(1..5_u32),
        proptest::collection::vec(step, 0..5),
        proptest::option::of(1..=u16::MAX),
        proptest::option::of("[a-z]{1,8}"),
    )
        .prop_map(|(from, vcpu, steps, port, command)| {
            json!({
                "from": from, "vcpu": vcpu, "steps": steps, "previewPort": port,
                "startCmd": command, "unknown": from,
            })
        })
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(value in nonsense()) {
        if let Err(errors) = parse(&value) {
            prop_assert!(!errors.is_empty());
        }
    }

    #[test]
    fn a_normal_spec_stays_as_it_is(value in legal()) {
        let spec = parse(&value).expect("a legal spec");
        let written = serde_json::to_value(&spec).expect("JSON");
        prop_assert_eq!(parse(&written), Ok(spec.clone()));
        prop_assert_eq!(serde_json::from_value::<BuildSpec>(written).expect("a spec"), spec);
    }
}
