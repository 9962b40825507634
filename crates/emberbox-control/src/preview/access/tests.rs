use super::*;

fn uri(text: &str) -> Uri {
    text.parse().unwrap()
}

#[test]
fn tokens_are_found_and_removed() {
    let cases = [
        ("/", None, "/"),
        ("/?mt=abc", Some("abc"), "/"),
        ("/a/b?x=1&mt=abc&y=2", Some("abc"), "/a/b?x=1&y=2"),
        ("/?mt=", None, "/"),
        ("/?mt", None, "/"),
        ("/?mt=a%20b", None, "/"),
        ("/?mtx=abc", None, "/?mtx=abc"),
        ("/?x=mt=abc", None, "/?x=mt=abc"),
        ("//evil.example/?mt=abc", Some("abc"), "/evil.example/"),
    ];
    for (text, token, rest) in cases {
        let presented = Presented::read(&uri(text), &HeaderMap::new());
        assert_eq!(presented.query.as_deref(), token, "{text}");
        assert_eq!(without_token(&uri(text)), rest, "{text}");
    }
}

#[test]
fn headers_and_cookies_are_read() {
    let mut headers = HeaderMap::new();
    headers.insert(TOKEN_HEADER, HeaderValue::from_static("one"));
    let cookies = "a=b; emberbox-preview=two; __Host-emberbox-preview=three; emberbox-preview=";
    headers.insert(COOKIE, HeaderValue::from_static(cookies));
    let presented = Presented::read(&uri("/"), &headers);
    assert_eq!(presented.kept, ["one", "two", "three"]);
}
