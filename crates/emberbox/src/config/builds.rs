//! How templates are built.

use emberbox_control::BuildSettings;

use super::{ConfigError, at_most, not_zero};

/// Most builds at the same time: each has a VM and writes gigabytes.
const MAX_CONCURRENCY: u32 = 16;

/// Checks what an operator set.
pub(super) fn check(builds: &BuildSettings) -> Result<(), ConfigError> {
    for (key, value) in [
        ("builds.concurrency", builds.concurrency),
        ("builds.max_open", builds.max_open),
    ] {
        if value == 0 {
            return Err(not_zero(key));
        }
    }
    if builds.concurrency > MAX_CONCURRENCY {
        return Err(at_most("builds.concurrency", MAX_CONCURRENCY));
    }
    for registry in builds.registries.values() {
        if registry.username.is_some() != registry.password_file.is_some() {
            return Err(ConfigError::Value {
                key: "builds.registries",
                problem: "must have username and password_file together or not at all".to_owned(),
            });
        }
        let mirror = registry.mirror.as_deref();
        if mirror.is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            return Err(ConfigError::Value {
                key: "builds.registries",
                problem: "must have a mirror that is an http:// or https:// URL".to_owned(),
            });
        }
    }
    Ok(())
}
