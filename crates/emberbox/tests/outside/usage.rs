//! What a real VM takes and sends, and what becomes of it in the ledger.

use emberbox_api::Time;
use serde_json::Value;

use crate::rig::sandbox::Sandbox;
use crate::rig::server::Server;
use crate::rig::{Rig, eventually};

/// Datagrams a guest sends, and the bytes of each beside its headers.
const DATAGRAMS: u64 = 300;
const PAYLOAD: u64 = 1000;

/// An address for documents (RFC 5737): outside, and nobody's.
const NOBODY: &str = "192.0.2.1";

fn usage(sandbox: &Sandbox<'_>) -> Value {
    sandbox.api.get(&sandbox.at("/usage")).ok(200)["data"].clone()
}

fn egress(usage: &Value) -> u64 {
    usage["network_egress_bytes"].as_u64().unwrap()
}

fn send(sandbox: &Sandbox<'_>) {
    sandbox.say(&format!(
        "python3 -c \"import socket; s = socket.socket(type=socket.SOCK_DGRAM); \
         [s.sendto(bytes({PAYLOAD}), ('{NOBODY}', 9)) for _ in range({DATAGRAMS})]\""
    ));
}

pub(crate) fn egress_is_counted(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let before = egress(&usage(&sandbox));
    // What it answers to this server stays inside.
    let long = sandbox.exec("head -c 1000000 /dev/zero | tr '\\0' x");
    assert_eq!(long.stdout.len(), 1_000_000);
    assert!(egress(&usage(&sandbox)) - before < 100_000);

    let sent = DATAGRAMS * PAYLOAD;
    send(&sandbox);
    let counted = eventually("what was sent is counted", || {
        let counted = egress(&usage(&sandbox)) - before;
        (counted >= sent).then_some(counted)
    });
    // Headers are 42 bytes of each.
    assert!(counted < 2 * sent, "{counted} of {sent}");

    // The last bytes of a life count, though its network goes with it.
    send(&sandbox);
    let path = sandbox.at("/usage");
    let gone = sandbox.destroy();
    let end = api.get(&path).ok(200)["data"].clone();
    assert!(egress(&end) - before >= 2 * sent, "{end}");
    assert_eq!(end["runtime_sec"], gone["total_runtime_sec"]);
    assert_eq!(end["state"], "destroyed");
}

pub(crate) fn metrics(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let current = || {
        let metrics = api.get(&sandbox.at("/metrics?window=1h")).ok(200);
        metrics["data"]["current"]["used"].clone()
    };
    let before = current();
    let number = |of: &Value, field: &str| of[field].as_u64().unwrap();
    for field in [
        "memory_pss_bytes",
        "memory_private_bytes",
        "cpu_time_ms",
        "disk_allocated_bytes",
    ] {
        assert!(number(&before, field) > 0, "{field} of {before}");
    }
    sandbox.say("head -c 20000000 /dev/urandom > /workspace/noise && sync");
    let after = current();
    for (field, least) in [("disk_allocated_bytes", 15_000_000), ("cpu_time_ms", 10)] {
        let more = number(&after, field) - number(&before, field);
        assert!(more >= least, "{field}: {before} {after}");
    }
}

pub(crate) fn killed(rig: &Rig) {
    let mut server = Server::start_with(
        &rig.binary,
        "[billing]\nvcpu_hour_micro = 1000000\nsettle_interval_sec = 1\n",
    );
    let id = {
        let api = server.api();
        let sandbox = Sandbox::new(&api);
        eventually("a settlement", || {
            let summary = api.get("/usage/summary").ok(200);
            (summary["data"]["charged_micro"] != 0).then_some(())
        });
        sandbox.keep()
    };
    server.kill_9();
    server.restart();
    let api = server.api();
    let record = api.get(&format!("/sandboxes/{id}")).ok(200);
    assert_eq!(record["state"], "running");
    let gone = Sandbox::known(&api, record).destroy();
    let sessions = api.get("/usage/sessions").ok(200);
    let [session] = sessions["data"].as_array().unwrap().as_slice() else {
        panic!("one life, not {sessions}");
    };
    // One vCPU: every millisecond of the segment once, the dead server's too.
    let time = |field: &str| {
        let time = serde_json::from_value::<Time>(session[field].clone());
        time.unwrap().0
    };
    let ran = time("ended_at")
        .duration_since(time("started_at"))
        .as_millis();
    assert_eq!(
        i128::from(session["provisioned_vcpu_ms"].as_i64().unwrap()),
        ran
    );
    assert_eq!(session["runtime_sec"], gone["total_runtime_sec"]);
    let credits = api.get("/credits").ok(200)["data"].clone();
    let charged = i64::try_from(ran).unwrap() * 1_000_000 / 3_600_000;
    assert_eq!(credits["balance_micro"], -charged);
    drop(api);
    server.finish().unwrap();
}
