//! Puts the guest agent named by `EMBERBOX_AGENT` into the binary; without
//! one, an empty file stands in for it and `setup` says how to build.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=EMBERBOX_AGENT");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("agent");
    match env::var_os("EMBERBOX_AGENT").filter(|agent| !agent.is_empty()) {
        Some(agent) => {
            println!("cargo::rerun-if-changed={}", Path::new(&agent).display());
            if let Err(error) = fs::copy(&agent, &out) {
                println!(
                    "cargo::error=cannot copy the agent {}: {error}",
                    Path::new(&agent).display()
                );
            }
        }
        None => {
            // Else cargo would run this again whenever any file changed.
            println!("cargo::rerun-if-changed=build.rs");
            fs::write(&out, b"").expect("OUT_DIR can be written");
        }
    }
}
