use super::*;

fn reader(accept: &[&'static str]) -> Reader {
    let mut headers = HeaderMap::new();
    for value in accept {
        headers.append(ACCEPT, HeaderValue::from_static(value));
    }
    Reader::of(&headers)
}

#[test]
fn browsers_get_pages_and_programs_json() {
    let firefox = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for accept in [
        &[firefox][..],
        &["application/json;q=0.5, text/html"],
        &["x", "TEXT/HTML"],
    ] {
        assert_eq!(reader(accept), Reader::Person, "{accept:?}");
    }
    for accept in [
        &[][..],
        &["*/*"],
        &["application/json"],
        &["text/html;q=0.5, application/json"],
        &["text/html;q=0"],
        &["text/htmlx"],
        &["image/png"],
    ] {
        assert_eq!(reader(accept), Reader::Program, "{accept:?}");
    }
}

#[test]
fn pages_say_only_what_is_escaped() {
    let page = page(
        ErrorCode::NotFound,
        StatusCode::NOT_FOUND,
        "no <b>\"&'",
        false,
    );
    assert!(page.contains("No &lt;b&gt;&quot;&amp;&#39;."), "{page}");
    assert!(!page.contains("http-equiv"), "{page}");
}
