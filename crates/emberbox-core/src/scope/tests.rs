use super::*;

#[test]
fn every_scope_has_its_name_and_its_bit() {
    for &scope in Scope::ALL {
        assert_eq!(scope.as_str().parse(), Ok(scope));
        let alone: Scopes = [scope].into_iter().collect();
        for &other in Scope::ALL {
            let allowed = scope == other || scope.includes().contains(&other);
            assert_eq!(alone.allow(other), allowed, "{scope} and {other}");
        }
        assert_eq!(alone.to_string().parse(), Ok(alone));
    }
    let unknown = "sandboxes:read root".parse::<Scopes>();
    assert_eq!(unknown, Err(UnknownScope("root".to_owned())));
}

#[test]
fn what_is_included_includes_no_more() {
    for &scope in Scope::ALL {
        let alone: Scopes = [scope].into_iter().collect();
        for included in scope.includes() {
            let included: Scopes = included.includes().iter().copied().collect();
            assert!(included.are_within(alone), "{scope}: [{included}]");
        }
    }
}

#[test]
fn who_makes_or_uses_sandboxes_sees_them_and_no_more() {
    use Scope::{SandboxesCreate, SandboxesExec, SandboxesRead, SandboxesWrite};
    let cases = [
        (SandboxesCreate, vec![SandboxesRead, SandboxesCreate]),
        (SandboxesExec, vec![SandboxesRead, SandboxesExec]),
        (
            SandboxesWrite,
            vec![
                SandboxesRead,
                SandboxesCreate,
                SandboxesExec,
                SandboxesWrite,
            ],
        ),
    ];
    for (scope, allowed) in cases {
        let alone: Scopes = [scope].into_iter().collect();
        let all: Vec<_> = { Scope::ALL }
            .iter()
            .copied()
            .filter(|&other| alone.allow(other))
            .collect();
        assert_eq!(all, allowed, "{scope}");
    }
}

#[test]
fn a_tenants_keys_may_everything_but_administer() {
    for &scope in Scope::ALL {
        assert_eq!(Scopes::TENANT.allow(scope), scope != Scope::Admin);
        assert!(Scopes::OPERATOR.allow(scope));
    }
}

#[test]
fn a_set_is_within_what_allows_all_of_it() {
    let read: Scopes = [Scope::SandboxesRead].into_iter().collect();
    let none = Scopes::from_iter([]);
    let cases = [
        (none, none, true),
        (read, none, false),
        (read, read, true),
        (read, Scopes::TENANT, true),
        (Scopes::TENANT, read, false),
        (Scopes::TENANT, Scopes::OPERATOR, true),
        (Scopes::OPERATOR, Scopes::TENANT, false),
    ];
    for (inner, outer, within) in cases {
        assert_eq!(inner.are_within(outer), within, "[{inner}] in [{outer}]");
    }
}

#[test]
fn a_set_is_a_list_on_the_wire() {
    let text = r#"["sandboxes:read","keys:write"]"#;
    let scopes: Scopes = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&scopes).unwrap(), text);
    assert!(serde_json::from_str::<Scopes>(r#"["sandboxes"]"#).is_err());
}
