//! Which header fields pass through a preview, and which are ours to set.

use std::net::IpAddr;

use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, SET_COOKIE, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::access::{COOKIE_NAMES, TOKEN_HEADER};
use crate::settings::Scheme;

/// Fields that speak of one connection only (RFC 9110, 7.6.1; RFC 9113, 8.2.2
/// for the last).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Whom a request came from.
pub(super) struct Origin<'a> {
    pub(super) address: Option<IpAddr>,
    pub(super) host: &'a HeaderValue,
    pub(super) scheme: Scheme,
}

/// Makes a client's header fit for a guest.
pub(super) fn clean_request(headers: &mut HeaderMap, origin: &Origin<'_>) {
    drop_hop_by_hop(headers);
    for name in [
        // Answered here: the body is asked for when the guest takes it.
        EXPECT,
        FORWARDED,
        FORWARDED_FOR,
        FORWARDED_HOST,
        FORWARDED_PROTO,
        FORWARDED_PORT,
        REAL_IP,
        TOKEN_HEADER,
    ] {
        headers.remove(name);
    }
    drop_own_cookies(headers);
    headers.insert(HOST, origin.host.clone());
    headers.insert(FORWARDED_HOST, origin.host.clone());
    let proto = HeaderValue::from_static(origin.scheme.as_str());
    headers.insert(FORWARDED_PROTO, proto);
    let address = origin
        .address
        .map(|address| address.to_canonical().to_string());
    if let Some(Ok(address)) = address.map(HeaderValue::try_from) {
        headers.insert(FORWARDED_FOR, address);
    }
}

/// Makes a guest's header fit for a client.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    // Said of a body that hyper frames anew.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    drop_hop_by_hop(headers);
    narrow_cookies(headers);
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// The guest has no use for the token that opens it.
fn drop_own_cookies(headers: &mut HeaderMap) {
    let kept: Vec<HeaderValue> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| {
            let Ok(text) = value.to_str() else {
                return Some(value.clone());
            };
            let kept: Vec<_> = text
                .split(';')
                .map(str::trim)
                .filter(|pair| {
                    let name = pair.split('=').next().unwrap_or_default();
                    !pair.is_empty() && !COOKIE_NAMES.contains(&name.trim())
                })
                .collect();
            (!kept.is_empty()).then(|| HeaderValue::from_str(&kept.join("; ")).ok())?
        })
        .collect();
    headers.remove(COOKIE);
    for value in kept {
        headers.append(COOKIE, value);
    }
}

/// A cookie stays with the host that set it: its neighbours below the same
/// domain are other people's sandboxes.
fn narrow_cookies(headers: &mut HeaderMap) {
    let narrowed: Vec<HeaderValue> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|value| {
            let text = value.as_bytes().split(|byte| *byte == b';');
            let kept: Vec<&[u8]> = text
                .enumerate()
                .filter(|(index, part)| *index == 0 || !names_domain(part))
                .map(|(_, part)| part)
                .collect();
            HeaderValue::from_bytes(&kept.join(&b';')).ok()
        })
        .collect();
    headers.remove(SET_COOKIE);
    for value in narrowed {
        headers.append(SET_COOKIE, value);
    }
}

fn names_domain(attribute: &[u8]) -> bool {
    let name = attribute.split(|byte| *byte == b'=').next();
    name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"domain"))
}

#[cfg(test)]
mod tests;
