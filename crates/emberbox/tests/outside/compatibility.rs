//! Every method of the official Python client that is about sandboxes, tried,
//! and what is published about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

use crate::official_client::{NEWEST, OLDEST, said};
use crate::rig::Rig;

const EVERY_METHOD: &str = include_str!("official_client/every_method.py");

/// What is published.
const PUBLISHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compatibility.md");

/// What becomes of each method.
type Told = BTreeMap<String, String>;

/// `EMBERBOX_BLESS=1` writes the table.
pub(crate) fn holds(rig: &Rig) {
    let api = rig.api();
    let [oldest, newest] = [OLDEST, NEWEST].map(|package| {
        let told: Told = serde_json::from_str(&said(&api, package, EVERY_METHOD)).unwrap();
        assert!(told.len() > 100, "{package}: {told:?}");
        let failed: Vec<_> = told
            .iter()
            .filter(|(_, told)| told.starts_with("fails"))
            .collect();
        assert!(failed.is_empty(), "{package}: {failed:#?}");
        told
    });
    assert_eq!(api.live(), Vec::<String>::new());
    let table = table(&oldest, &newest);
    if std::env::var_os("EMBERBOX_BLESS").is_some() {
        fs::write(PUBLISHED, &table).unwrap();
    }
    let published = fs::read_to_string(PUBLISHED).unwrap_or_default();
    assert!(
        published == table,
        "docs/compatibility.md is not what the client finds; run this test with EMBERBOX_BLESS=1"
    );
}

fn table(oldest: &Told, newest: &Told) -> String {
    let version = |package: &'static str| package.split("==").last().unwrap();
    let (old, new) = (version(OLDEST), version(NEWEST));
    let mut text = format!(
        "# The official Python client\n\n\
         What becomes of every method that is about sandboxes, in the oldest and the newest\n\
         supported version of `miosa` on PyPI. `crates/emberbox/tests/outside/compatibility.rs`\n\
         finds the methods by looking at the installed client, calls each against a real server\n\
         with real microVMs, and fails when this table is not what it finds; with\n\
         `EMBERBOX_BLESS=1` it writes the table.\n\n\
         `sandbox` is one sandbox of the client's, everything else is a namespace of the client.\n\
         Namespaces of the vendor's other products (computers, databases, agents and so on) are\n\
         not looked at. A dash stands for a method that the version does not have.\n\n\
         | Method | {old} | {new} |\n|---|---|---|\n"
    );
    let methods: BTreeSet<_> = oldest.keys().chain(newest.keys()).collect();
    for method in methods {
        let of = |told: &Told| {
            told.get(method)
                .cloned()
                .unwrap_or_else(|| "\u{2013}".to_owned())
        };
        writeln!(text, "| `{method}` | {} | {} |", of(oldest), of(newest)).unwrap();
    }
    text
}
