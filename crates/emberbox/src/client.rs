//! Which server is spoken to, and how its errors are shown.

use anyhow::{Context, Result};
use emberbox_api::client::Client;
use secrecy::SecretString;

/// The variables that name the server and the key; the second of each pair is
/// the one the official clients read.
const URL: [&str; 2] = ["EMBERBOX_URL", "MIOSA_BASE_URL"];
const KEY: [&str; 2] = ["EMBERBOX_API_KEY", "MIOSA_API_KEY"];

/// A client for the server of the environment.
pub(crate) fn from_environment() -> Result<Client> {
    let url = first_set(&URL).with_context(|| {
        format!(
            "{} is not set; it says where the server is, for example http://127.0.0.1:8080",
            URL[0]
        )
    })?;
    let key = first_set(&KEY).with_context(|| {
        format!(
            "{} is not set; the server wrote the first key to its --bootstrap-key-file",
            KEY[0]
        )
    })?;
    let client = Client::new(&url, SecretString::from(key));
    client.with_context(|| format!("{url} is no server's address"))
}

fn first_set(names: &[&str]) -> Option<String> {
    names
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .map(|value| value.trim().to_owned())
        .find(|value| !value.is_empty())
}

/// Writes an error to standard error with everything that caused it; one of
/// the server's has its code and the request's id in it.
pub(crate) fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
