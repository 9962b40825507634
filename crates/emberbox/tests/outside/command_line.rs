//! The command line against a server behind TLS.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::rig::Rig;
use crate::rig::sandbox::Sandbox;
use crate::rig::server::Server;

/// Where a server's development authority is in its data directory.
const CA: &str = "tls/ca.crt";

/// A server that also listens with a certificate of its own authority.
const HTTPS: &str = "\
    [server]\nlisten_https = \"127.0.0.1:0\"\n\
    [tls]\ndevelopment_ca = true\n\
    [preview]\nscheme = \"https\"\n";

pub(crate) fn over_tls(rig: &Rig) {
    let server = Server::start_with(&rig.binary, HTTPS);
    let api = server.api();
    let sandbox = Sandbox::with(&api, &json!({}));
    let record = sandbox.get();
    let preview = record["preview_url"].as_str().unwrap();
    let (_, port) = preview.rsplit_once(':').unwrap();
    let cat = || {
        let mut command = Command::new(&rig.binary);
        command
            .args(["sandbox", "exec", "-i", record["id"].as_str().unwrap()])
            .args(["--", "tr", "a-z", "A-Z"])
            .env("EMBERBOX_URL", format!("https://localhost:{port}"))
            .env("EMBERBOX_API_KEY", &api.key)
            .env_remove("SSL_CERT_DIR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let ran = |command: &mut Command| {
        let mut child = command.spawn().unwrap();
        // One that believes nobody does not read.
        let _ = child.stdin.take().unwrap().write_all(b"shout\n");
        child.wait_with_output().unwrap()
    };

    let known = ran(cat().env("SSL_CERT_FILE", server.data_dir().join(CA)));
    let said = String::from_utf8_lossy(&known.stderr);
    assert_eq!((&*known.stdout, &*said), (&b"SHOUT\n"[..], ""));

    // Whom this machine does not believe, the command line does not either.
    let unknown = ran(cat().env_remove("SSL_CERT_FILE"));
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert_eq!(unknown.status.code(), Some(1), "{said}");
    assert!(said.contains("certificate"), "{said}");

    sandbox.destroy();
    server.finish().unwrap();
}
