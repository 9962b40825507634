//! URLs that name files, and host names that name previews.
//!
//! The files below stand alone: the crate around them takes minutes to build.

#![no_main]

use libfuzzer_sys::fuzz_target;

use files::path::{PathError, is_legal_path, of_url};
use preview::host::{self, Meaning};

#[path = "../../crates/emberbox-control/src/http/files"]
mod files {
    pub(crate) mod path;
}

#[path = "../../crates/emberbox-control/src/preview"]
mod preview {
    pub(crate) mod host;
}

const PLATFORM: &str = "example.com";

fuzz_target!(|text: &str| {
    match of_url(text) {
        Ok(path) => assert!(is_legal_path(&path)),
        Err(PathError::NotUtf8 | PathError::Illegal) => {}
    }
    match host::read(text, PLATFORM) {
        Meaning::Preview(preview) => {
            // A name that is read is the only one of that preview.
            let name = host::name(&preview.slug, preview.port, &preview.domain);
            assert_eq!(host::read(&name, PLATFORM), Meaning::Preview(preview));
            assert_eq!(host::normal(text), Some(name));
        }
        Meaning::Elsewhere | Meaning::Malformed => {}
    }
});
