use super::*;

#[test]
fn only_the_answer_to_this_cell_is_one() {
    let reply =
        br#"{"id":"a","ok":true,"stdout":"aGk=","stderr":"","result":[1],"truncated":false}"#;
    let outcome = parse(reply, "a").unwrap();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.result),
        ("hi", json!([1]))
    );
    assert_eq!(parse(reply, "b"), None);
    for noise in [
        &b""[..],
        b"\n",
        b"hello",
        b"{\"id\":\"a\"}",
        b"\xff\xfe",
        b"[1]",
    ] {
        assert_eq!(parse(noise, "a"), None, "{noise:?}");
    }
    let broken = br#"{"id":"a","ok":true,"stdout":"!","stderr":"","result":1,"truncated":false}"#;
    assert_eq!(parse(broken, "a"), None);
}

#[test]
fn a_context_is_known_by_its_process() {
    let context = Context {
        language: Language::Javascript,
        name: "a:b".to_owned(),
    };
    let process = |name: &str| ProcessInfo {
        pid: 1,
        name: Some(name.to_owned()),
        command: String::new(),
        started_unix_ms: 0,
        ended: None,
        written: 0,
    };
    let found = Context::of_process(&process(&context.process_name()));
    assert_eq!(found, Some(context));
    for other in ["code:cobol:a", "code:python", "web", ""] {
        assert_eq!(Context::of_process(&process(other)), None, "{other:?}");
    }
}
