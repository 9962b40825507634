use std::collections::HashSet;

use super::{ErrorCode, markdown};

#[test]
fn codes_are_unique_and_upper_snake() {
    let codes: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes.len(), ErrorCode::ALL.len());
    for code in codes {
        assert!(
            code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'),
            "{code}"
        );
    }
}

#[test]
fn wire_name_is_the_code() {
    for code in ErrorCode::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        assert!((400..600).contains(&code.status()), "{code}");
    }
}

#[test]
fn the_reference_codes_keep_their_status() {
    for (code, status) in [
        (ErrorCode::InvalidTemplate, 400),
        (ErrorCode::SandboxLimitExceeded, 409),
        (ErrorCode::ValidationError, 422),
        (ErrorCode::NotFound, 404),
        (ErrorCode::SandboxNotRunning, 409),
        (ErrorCode::FileNotFound, 404),
        (ErrorCode::FileTooLarge, 413),
        (ErrorCode::ExecTimeout, 504),
    ] {
        assert_eq!(code.status(), status, "{code}");
    }
}

#[test]
fn documentation_names_every_code() {
    let text = markdown();
    for code in ErrorCode::ALL {
        assert!(
            text.contains(&format!("| {} | `{code}` |", code.status())),
            "{code}"
        );
    }
}

/// `EMBERBOX_BLESS=1` writes it.
#[test]
fn the_published_documentation_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
    if std::env::var_os("EMBERBOX_BLESS").is_some() {
        std::fs::write(path, markdown()).unwrap();
    }
    let published = std::fs::read_to_string(path).unwrap();
    assert!(
        published == markdown(),
        "docs/errors.md is not what the codes say; run this test with EMBERBOX_BLESS=1"
    );
}
