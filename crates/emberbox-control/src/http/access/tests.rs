use super::*;

/// Every operation of the OpenAPI document.
fn operations() -> Vec<(Method, String, bool)> {
    let document = serde_json::to_value(crate::openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            let open = operation["security"] == serde_json::json!([{}]);
            operations.push((method, path.clone(), open));
        }
    }
    operations
}

#[test]
fn every_route_has_a_rule_or_is_open_to_everybody() {
    for (method, path, open) in operations() {
        let needs = needs(&method, &path);
        assert_eq!(
            needs.is_none(),
            open,
            "{method} {path} needs {needs:?}: give it a rule, or say `security(())` and take no key"
        );
    }
}

#[test]
fn what_changes_something_never_needs_only_to_read() {
    for (method, path, _) in operations() {
        if method == Method::GET || path.ends_with("/files/stat") {
            continue;
        }
        let needs = needs(&method, &path);
        let reads = needs == Some(Needs::Scope(Scope::SandboxesRead));
        assert!(!reads, "{method} {path}");
    }
}

#[test]
fn what_needs_what() {
    use Needs::{AnyKey, WholeTenant};
    let of = |scope| Some(Needs::Scope(scope));
    let cases = [
        ("GET", "/sandboxes", of(Scope::SandboxesRead)),
        ("POST", "/sandboxes", of(Scope::SandboxesCreate)),
        ("POST", "/sandboxes/batch", of(Scope::SandboxesCreate)),
        ("POST", "/sandboxes/run", of(Scope::SandboxesWrite)),
        ("POST", "/sandboxes/{id}/exec", of(Scope::SandboxesExec)),
        ("POST", "/sandboxes/{id}/files", of(Scope::SandboxesExec)),
        ("DELETE", "/sandboxes/{id}", of(Scope::SandboxesWrite)),
        ("POST", "/sandboxes/{id}/fork", of(Scope::SandboxesWrite)),
        (
            "GET",
            "/sandboxes/{id}/files/{*path}",
            of(Scope::SandboxesRead),
        ),
        (
            "POST",
            "/sandboxes/{id}/files/stat",
            of(Scope::SandboxesRead),
        ),
        (
            "GET",
            "/sandboxes/{id}/terminal/stream",
            of(Scope::SandboxesExec),
        ),
        ("DELETE", "/deployments/{id}", of(Scope::SandboxesWrite)),
        ("GET", "/whoami", Some(AnyKey)),
        ("GET", "/usage/summary", of(Scope::BillingRead)),
        ("GET", "/credits", Some(WholeTenant(Scope::BillingRead))),
        ("PATCH", "/api-keys/{id}", of(Scope::KeysWrite)),
        ("GET", "/admin/tenants", Some(WholeTenant(Scope::Admin))),
        ("GET", "/sandboxes-of-others", None),
        ("GET", "/", None),
    ];
    for (method, route, expected) in cases {
        let method: Method = method.parse().unwrap();
        assert_eq!(needs(&method, route), expected, "{method} {route}");
        let nested = format!("{BASE_PATH}{route}");
        assert_eq!(needs(&method, &nested), expected, "{method} {nested}");
    }
}

#[test]
fn readiness_and_streams_are_free() {
    let cases = [
        ("GET", "/sandboxes/{id}/readiness", false),
        ("GET", "/sandboxes/{id}/readiness/stream", false),
        ("GET", "/sandboxes/{id}/terminal/stream", false),
        ("GET", "/sandboxes/{id}/events", false),
        ("GET", "/sandboxes/{id}/files/watch", false),
        ("GET", "/sandboxes/{id}", true),
        ("GET", "/sandboxes/{id}/files/{*path}", true),
        // It runs a command.
        ("POST", "/sandboxes/{id}/exec/stream", true),
    ];
    for (method, route, counted) in cases {
        let method: Method = method.parse().unwrap();
        assert_eq!(is_counted(&method, route), counted, "{method} {route}");
    }
}
