//! Who may see which port.

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use emberbox_store::{PreviewRecord, Visibility};
use jiff::Timestamp;

use crate::settings::Scheme;

/// Where programs put a preview token.
pub(super) const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-preview-token");

/// Where links have theirs.
pub(super) const TOKEN_QUERY: &str = "mt";

/// Where browsers keep it. The first is only ever set over TLS, and no
/// neighbour below the same domain can set it (RFC 6265bis, 4.1.3.2).
pub(super) const COOKIE_NAMES: [&str; 2] = ["__Host-emberbox-preview", "emberbox-preview"];

/// Longest token that is looked up; ours have 43 characters.
const TOKEN_MAX: usize = 128;

/// Whether a port is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// To everybody.
    Open,
    /// To whoever has a token.
    Token,
    /// To nobody.
    Closed,
}

/// Decides by what the owner said of this port. A port nobody spoke of is
/// open: its address is what protects it, as the reference has it. One that
/// was closed, or whose time is over, is not.
pub(super) fn of_port(port: u16, shown: &[PreviewRecord], now: Timestamp) -> Access {
    match shown.iter().find(|record| record.port == port) {
        None => Access::Open,
        Some(record) if !record.is_active(now) => Access::Closed,
        Some(record) => match record.visibility {
            Visibility::Public => Access::Open,
            Visibility::Private => Access::Token,
        },
    }
}

/// Tokens a request brings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Presented {
    /// In the query, to be kept as a cookie.
    pub(super) query: Option<String>,
    /// In its header or cookie.
    pub(super) kept: Vec<String>,
}

impl Presented {
    pub(super) fn read(uri: &Uri, headers: &HeaderMap) -> Self {
        let header = headers
            .get(TOKEN_HEADER)
            .and_then(|value| value.to_str().ok());
        let cookies = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| COOKIE_NAMES.contains(name))
            .map(|(_, value)| value);
        let query = pairs(uri)
            .filter_map(|pair| pair.strip_prefix(TOKEN_QUERY)?.strip_prefix('='))
            .find(|token| plausible(token));
        Self {
            query: query.map(str::to_owned),
            kept: header
                .into_iter()
                .chain(cookies)
                .filter(|token| plausible(token))
                // One of each kind is what a client of ours sends.
                .take(COOKIE_NAMES.len() + 1)
                .map(str::to_owned)
                .collect(),
        }
    }
}

/// Path and query without the token.
pub(super) fn without_token(uri: &Uri) -> String {
    let kept: Vec<&str> = pairs(uri)
        .filter(|pair| pair.split('=').next() != Some(TOKEN_QUERY))
        .collect();
    // Two slashes in front would name another host.
    let path = format!("/{}", uri.path().trim_start_matches('/'));
    if kept.is_empty() {
        path
    } else {
        format!("{path}?{}", kept.join("&"))
    }
}

/// The cookie that keeps a token. Over TLS it also serves a preview that is
/// embedded in a page of another site.
pub(super) fn cookie(token: &str, scheme: Scheme) -> Option<HeaderValue> {
    let [secure, plain] = COOKIE_NAMES;
    let text = match scheme {
        Scheme::Https => {
            format!("{secure}={token}; Path=/; Secure; HttpOnly; SameSite=None; Partitioned")
        }
        Scheme::Http => format!("{plain}={token}; Path=/; HttpOnly; SameSite=Lax"),
    };
    HeaderValue::from_str(&text).ok()
}

fn pairs(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
}

fn plausible(token: &str) -> bool {
    !token.is_empty()
        && token.len() <= TOKEN_MAX
        && token
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests;
