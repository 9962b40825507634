//! Where the app of a template is found in its guest, whoever started it: the
//! control plane in a running sandbox, or a build in the snapshot that
//! sandboxes come from.
//!
//! The app leads a session of its own; its process id is the session's.

/// What install and app write (`reference.txt`, "Start a Template App").
pub const LOGS_PATH: &str = "/tmp/miosa-run/template.log";

/// Holds the app's process id (`reference.txt`, "Start a Template App").
pub const PID_PATH: &str = "/tmp/miosa-run/template.pid";

/// With the app's process id after it: holds the code it ended with.
pub const EXIT_PATH: &str = "/tmp/miosa-run/template.exit.";
