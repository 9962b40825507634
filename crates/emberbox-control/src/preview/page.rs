//! What is said in place of a preview: a page to people, JSON to programs.

use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use emberbox_api::ErrorCode;

use crate::Failure;
use crate::http::request;

/// How soon a page that waits for something looks again, in seconds: soon
/// enough to feel immediate, rarely enough that a forgotten tab costs nothing.
const LOOK_AGAIN_SEC: u16 = 2;

/// Who reads the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// A browser.
    Person,
    /// Anything else.
    Program,
}

impl Reader {
    /// By what the request accepts: HTML has to be named, and JSON not be
    /// liked better.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accept: Vec<&str> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        let html = quality(&accept, "text/html");
        if html > 0.0 && html >= quality(&accept, "application/json") {
            Self::Person
        } else {
            Self::Program
        }
    }
}

/// The answer to a request that reached no guest.
pub(super) fn answer(failure: Failure, reader: Reader) -> Response {
    let again = failure.retry_after.is_some();
    let code = failure.code;
    let message = failure.message.clone();
    // Logs the failure too.
    let mut response = failure.into_response();
    let status = response.status();
    if reader == Reader::Person {
        let page = page(code, status, &message, again);
        *response.body_mut() = page.into();
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, html);
        response.headers_mut().remove(CONTENT_LENGTH);
        let policy = HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
        );
        response
            .headers_mut()
            .insert(CONTENT_SECURITY_POLICY, policy);
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let no_sniffing = HeaderValue::from_static("nosniff");
    headers.insert(X_CONTENT_TYPE_OPTIONS, no_sniffing);
    if code == ErrorCode::InvalidRequest {
        // Who may have meant another request by these bytes gets no second.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if again {
        headers.insert(RETRY_AFTER, LOOK_AGAIN_SEC.into());
    }
    response
}

fn page(code: ErrorCode, status: StatusCode, message: &str, again: bool) -> String {
    let refresh = if again {
        format!("<meta http-equiv=\"refresh\" content=\"{LOOK_AGAIN_SEC}\">\n")
    } else {
        String::new()
    };
    let waiting = if again {
        "<p class=\"quiet\">This page looks again by itself.</p>\n"
    } else {
        ""
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"robots\" content=\"noindex\">\n{refresh}<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<p>{message}</p>\n\
         <p>{fix}</p>\n{waiting}<p class=\"quiet\">{status} · {code} · {id}</p>\n</main>\n\
         </body>\n</html>\n",
        title = escaped(title(code)),
        message = escaped(&sentence(message)),
        fix = escaped(code.fix()),
        status = status.as_u16(),
        code = escaped(code.as_str()),
        id = escaped(&request::id().unwrap_or_default()),
    )
}

const STYLE: &str = "body{margin:0;min-height:100vh;display:grid;place-items:center;\
    font:16px/1.5 system-ui,sans-serif;background:#fff;color:#1c1c1e}\
    main{max-width:34rem;padding:2rem}h1{font-size:1.4rem;margin:0 0 1rem}\
    .quiet{color:#6e6e73;font-size:.85rem;overflow-wrap:anywhere}\
    @media(prefers-color-scheme:dark){body{background:#1c1c1e;color:#f2f2f7}}";

fn title(code: ErrorCode) -> &'static str {
    if code == ErrorCode::DeploymentStopped {
        return "This app is not running";
    }
    if code == ErrorCode::SandboxWaking {
        return "Waking up";
    }
    match code.status() {
        502 if code != ErrorCode::PortNotServed => "This server cannot be reached",
        401 => "This preview is private",
        404 => "There is nothing here",
        409 => "This sandbox is not running",
        502 => "Nothing answers here yet",
        503 => "Too busy just now",
        504 => "No answer in time",
        400..500 => "This request cannot be served",
        _ => "Something went wrong",
    }
}

fn sentence(message: &str) -> String {
    let mut text = String::with_capacity(message.len() + 1);
    let mut rest = message.chars();
    text.extend(rest.next().into_iter().flat_map(char::to_uppercase));
    text.push_str(rest.as_str());
    text.push('.');
    text
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// How much a media type is liked: its own `q`, 0 when it is not named.
fn quality(accept: &[&str], media_type: &str) -> f32 {
    accept
        .iter()
        .filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next()?.eq_ignore_ascii_case(media_type);
            let q = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
            named.then(|| q.unwrap_or(1.0))
        })
        .fold(0.0, f32::max)
}

#[cfg(test)]
mod tests;
