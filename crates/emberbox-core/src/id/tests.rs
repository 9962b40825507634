use super::*;

#[test]
fn round_trips_through_text() {
    let id = SandboxId::generate();
    assert_eq!(id.as_str().parse(), Ok(id.clone()));
    assert!(id.as_str().starts_with("sbx_"));
}

#[test]
fn refuses_what_is_not_an_id_of_its_kind() {
    let vm = VmId::generate();
    for text in [
        "",
        "sbx_",
        "sbx_../../etc/passwd0000000000",
        vm.as_str(),
        "sbx_01J9XR2T4FK8ME3N5Q01J9XR2T",
    ] {
        assert!(text.parse::<SandboxId>().is_err(), "{text} was accepted");
    }
}

#[test]
fn ids_and_slugs_are_unique() {
    let ids: std::collections::HashSet<_> = (0..1000).map(|_| SandboxId::generate()).collect();
    assert_eq!(ids.len(), 1000);
    let slugs: std::collections::HashSet<_> = (0..1000).map(|_| slug()).collect();
    assert_eq!(slugs.len(), 1000);
    assert!(
        slugs
            .iter()
            .all(|s| s.len() == SLUG_LEN && s.as_bytes()[0].is_ascii_lowercase())
    );
}

#[test]
fn a_vm_that_was_first_names_its_sandbox() {
    let vm: VmId = "vm_01m8cn3fzdtb4vjnf73d4v4rbv".parse().unwrap();
    let named: SandboxId = vm.own_sandbox().as_str().parse().unwrap();
    assert_eq!(named.as_str(), "sbx_01m8cn3fzdtb4vjnf73d4v4rbv");
}
