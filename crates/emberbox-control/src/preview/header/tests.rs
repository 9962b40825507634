use super::*;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

fn lines(map: &HeaderMap) -> Vec<(&str, &str)> {
    let mut lines: Vec<_> = map
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_guest_gets_what_is_meant_for_it() {
    let mut map = headers(&[
        ("accept", "*/*"),
        ("connection", "close, x-secret-hop"),
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic abc"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
        ("x-secret-hop", "1"),
        ("expect", "100-continue"),
        ("forwarded", "for=1.2.3.4"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-for", "5.6.7.8"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "gopher"),
        ("x-real-ip", "1.2.3.4"),
        ("x-preview-token", "mp_abc"),
        ("cookie", "a=1; emberbox-preview=mp_abc;b=2"),
        ("cookie", "__Host-emberbox-preview=mp_abc"),
        ("host", "one"),
        ("host", "two"),
    ]);
    let host = HeaderValue::from_static("abc.sandbox.localhost");
    let origin = Origin {
        address: Some("::ffff:10.0.0.7".parse().unwrap()),
        host: &host,
        scheme: Scheme::Https,
    };
    clean_request(&mut map, &origin);
    assert_eq!(
        lines(&map),
        [
            ("accept", "*/*"),
            ("cookie", "a=1; b=2"),
            ("host", "abc.sandbox.localhost"),
            ("x-forwarded-for", "10.0.0.7"),
            ("x-forwarded-host", "abc.sandbox.localhost"),
            ("x-forwarded-proto", "https"),
        ]
    );
}

#[test]
fn a_client_gets_what_is_meant_for_it() {
    let mut map = headers(&[
        ("content-length", "5"),
        ("content-type", "text/plain"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("trailer", "x-sum"),
        (
            "set-cookie",
            "a=1; Path=/; Domain=.sandbox.localhost; HttpOnly",
        ),
        ("set-cookie", "b=2;domain = localhost"),
        ("set-cookie", "domain=3; path=/"),
    ]);
    clean_response(&mut map);
    assert_eq!(
        lines(&map),
        [
            ("content-type", "text/plain"),
            ("set-cookie", "a=1; Path=/; HttpOnly"),
            ("set-cookie", "b=2"),
            ("set-cookie", "domain=3; path=/"),
            ("trailer", "x-sum"),
        ]
    );
}
