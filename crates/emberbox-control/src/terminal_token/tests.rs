use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use emberbox_core::{Scopes, TenantId, TenantLimits, UserId};
use emberbox_store::Bounds;

use super::*;

fn ids() -> (SandboxId, Caller) {
    let caller = Caller {
        key: ApiKeyId::generate(),
        generation: 3,
        ends: None,
        scopes: Scopes::TENANT,
        tenant: TenantId::generate(),
        user: UserId::generate(),
        bounds: Bounds::default(),
        home: uuid::Uuid::now_v7(),
        limits: TenantLimits::default(),
        suspended_at: None,
    };
    (SandboxId::generate(), caller)
}

#[test]
fn a_token_says_what_it_was_made_for() {
    let key = TerminalKey::random();
    let (sandbox, caller) = ids();
    let (token, expires) = key.sign(&sandbox, &caller, "00ff");
    assert!(token.starts_with("eyJ"), "{token}");
    let claims = key.verify(&token).unwrap();
    let expected = Claims {
        sandbox,
        session: "00ff".to_owned(),
        key: caller.key,
        generation: 3,
        exp: expires.as_second(),
    };
    assert_eq!(claims, expected);
    let header = token.split('.').next().unwrap();
    let header = String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert!(header.contains("\"HS512\""), "{header}");
}

#[test]
fn every_other_token_is_refused() {
    let key = TerminalKey::random();
    let (sandbox, caller) = ids();
    let (good, _) = key.sign(&sandbox, &caller, "00ff");
    let (head, rest) = good.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let unsigned = encode(r#"{"alg":"none","typ":"JWT"}"#);
    let weaker = encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let past = Timestamp::now() - Duration::from_secs(2);
    let mut flipped = good.clone();
    let last = flipped.pop().unwrap();
    flipped.insert(0, last);
    for wrong in [
        TerminalKey::random().sign(&sandbox, &caller, "00ff").0,
        key.sign_until(&sandbox, &caller, "00ff", past),
        format!("{unsigned}.{claims}."),
        format!("{unsigned}.{claims}.{signature}"),
        format!("{weaker}.{claims}.{signature}"),
        format!("{head}.{}.{signature}", encode("{}")),
        format!("{head}.{claims}"),
        flipped,
        "x".repeat(1 << 20),
        String::new(),
        "..".to_owned(),
    ] {
        assert_eq!(
            key.verify(&wrong),
            None,
            "{}",
            &wrong[..wrong.len().min(400)]
        );
    }
    assert!(key.verify(&good).is_some());
}

#[test]
fn a_kept_key_is_the_same_and_only_its_owners() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("terminal.key");
    let (sandbox, caller) = ids();
    let (token, _) = TerminalKey::open(&path)
        .unwrap()
        .sign(&sandbox, &caller, "00ff");
    assert!(TerminalKey::open(&path).unwrap().verify(&token).is_some());
    let mode = std::fs::metadata(&path).unwrap().permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o600
    );
    // What is no key is replaced.
    std::fs::write(&path, "torn").unwrap();
    assert!(TerminalKey::open(&path).unwrap().verify(&token).is_none());
    assert!(TerminalKey::open(&dir.path().join("no/such")).is_err());
}
