use axum::http::{HeaderMap, HeaderValue};

use super::parse_key;
use crate::Failure;

fn is_refused(headers: &HeaderMap) -> bool {
    let refused = parse_key(headers).err();
    refused.is_some_and(|failure: Failure| failure.message.starts_with("Idempotency-Key "))
}

#[test]
fn keys_are_short_printable_and_alone() {
    let mut headers = HeaderMap::new();
    assert_eq!(parse_key(&headers).unwrap(), None);
    headers.insert("idempotency-key", HeaderValue::from_static("k1"));
    assert_eq!(parse_key(&headers).unwrap().as_deref(), Some("k1"));
    headers.append("idempotency-key", HeaderValue::from_static("k2"));
    assert!(is_refused(&headers));
    let longest = HeaderValue::from_str(&"k".repeat(255)).unwrap();
    headers.insert("idempotency-key", longest);
    assert!(parse_key(&headers).is_ok());
    for bad in [Vec::new(), vec![b'k'; 256], "ü".into(), vec![0xff]] {
        let bad = HeaderValue::from_bytes(&bad).unwrap();
        headers.insert("idempotency-key", bad);
        assert!(is_refused(&headers));
    }
}
