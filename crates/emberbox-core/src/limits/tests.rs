use super::*;

#[test]
fn a_tenants_own_limits_win_and_the_rest_is_the_settings() {
    let settings = Limits::default();
    assert_eq!(TenantLimits::default().over(&settings), settings);
    let own = TenantLimits {
        max_sandboxes: Some(50),
        max_vcpus: Some(8),
        max_memory_mib: Some(512),
        max_disk_mib: Some(2048),
        max_snapshots: Some(0),
        max_workspaces: Some(3),
        max_projects: Some(4),
        max_users: Some(5),
        max_keys: Some(6),
        max_upload_bytes: Some(1),
        max_exec_timeout_sec: Some(10),
        requests_per_minute: Some(7),
    };
    let expected = Limits {
        max_sandboxes: 50,
        max_vcpus: 8,
        max_memory_mib: 512,
        max_disk_mib: 2048,
        max_snapshots: 0,
        max_workspaces: 3,
        max_projects: 4,
        max_users: 5,
        max_keys: 6,
        max_upload_bytes: 1,
        max_exec_timeout_sec: 10,
        // Nobody is given a default that is refused.
        default_exec_timeout_sec: 10,
        requests_per_minute: 7,
        ..settings.clone()
    };
    assert_eq!(own.over(&settings), expected);
}
