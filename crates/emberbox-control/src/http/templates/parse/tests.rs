use serde_json::json;

use super::*;

fn parse(body: Value) -> Result<NewTemplate, Vec<(String, String)>> {
    let body = serde_json::from_value(body).unwrap();
    template(body, &BuildLimits::default()).map_err(|failure| {
        let errors: Vec<BuildSpecError> = serde_json::from_value(failure.details.unwrap()).unwrap();
        let errors = errors.into_iter();
        errors.map(|error| (error.code, error.field)).collect()
    })
}

fn errors<const N: usize>(body: Value, expected: [(&str, &str); N]) {
    let expected = expected.map(|(code, field)| (code.to_owned(), field.to_owned()));
    assert_eq!(parse(body).unwrap_err(), expected);
}

#[test]
fn a_slug_is_made_from_the_name_and_the_other_way_round() {
    let spec = json!({"from": "debian"});
    let named = parse(json!({"name": "Agent Web App", "build_spec": spec})).unwrap();
    assert_eq!(named.slug, "agent-web-app");
    let slug = parse(json!({"slug": "agent-2", "build_spec": spec})).unwrap();
    assert_eq!(
        (slug.name, slug.description),
        ("agent-2".to_owned(), String::new())
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    const OURS: &str = "VALIDATION_ERROR";
    errors(json!({}), [(OURS, "name"), ("REQUIRED", "build_spec")]);
    errors(
        json!({
            "name": "a\nb", "slug": "Upper", "description": "x".repeat(5000),
            "metadata": {"a": "x".repeat(70_000)},
            "build_spec": {"from": "alpine", "vcpu": 0}
        }),
        [
            (OURS, "name"),
            (OURS, "slug"),
            (OURS, "description"),
            (OURS, "metadata"),
            ("UNSUPPORTED_BASE_IMAGE", "from"),
            ("OUT_OF_RANGE", "vcpu"),
        ],
    );
    errors(
        json!({"name": "日本", "build_spec": {"from": "debian"}}),
        [(OURS, "slug")],
    );
    for slug in ["", "-a", "a-", "1a", "a_b", &"x".repeat(64)] {
        let body = json!({"name": "n", "slug": slug, "build_spec": {"from": "debian"}});
        errors(body, [(OURS, "slug")]);
    }
}
