//! The server killed with SIGKILL while it creates and destroys, and started
//! again on what it left.
//!
//! After each kill: nothing is half there, what ran runs on untouched, and the
//! kernel holds exactly what the running sandboxes need.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::leak::Vms;
use crate::rig::api::Api;
use crate::rig::sandbox::{Ran, Sandbox};
use crate::rig::server::{NONE_PREPARED, PREPARED, SLOTS_READY, Server};
use crate::rig::{Rig, SOON, eventually, try_eventually};

/// When after a create was sent, in milliseconds. A restore takes some 200 ms
/// in emulation: before, in each part of it, after.
const CREATE_MOMENTS_MS: [u64; 9] = [0, 5, 20, 50, 90, 140, 200, 300, 500];

/// The same for a create that only claims a prepared VM, which takes some 5 ms.
/// What is killed later is preparing the next one.
const CLAIM_MOMENTS_MS: [u64; 9] = [0, 1, 2, 3, 5, 8, 15, 200, 400];

/// When after a destroy was sent, in milliseconds; it takes some 50 ms.
const DESTROY_MOMENTS_MS: [u64; 6] = [0, 1, 5, 20, 60, 120];

/// When after its start, in milliseconds; it listens after some 100 ms.
const START_MOMENTS_MS: [u64; 5] = [10, 30, 60, 100, 200];

/// What must survive every kill.
struct Survivor {
    id: String,
    pid: String,
    boot: String,
    record: Value,
}

const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";
const KEPT: &str = "/workspace/kept";

impl Survivor {
    fn new(server: &Server) -> Self {
        let api = server.api();
        let sandbox = Sandbox::new(&api);
        sandbox.upload(KEPT, b"still here");
        let pid = sandbox.say("sleep 3600 >/dev/null 2>&1 & echo $!");
        let boot = sandbox.say(BOOT_ID);
        let record = sandbox.get();
        Self {
            id: sandbox.keep(),
            pid,
            boot,
            record,
        }
    }

    /// The same sandbox, the same boot, the same process, the same file.
    fn check(&self, server: &Server) {
        let api = server.api();
        let sandbox = Sandbox::known(&api, self.record.clone());
        let mut record = sandbox.get();
        // Time goes on, and the server has another port now.
        for field in ["timeout_remaining_ms", "preview_url"] {
            record[field] = self.record[field].clone();
        }
        assert_eq!(record, self.record);
        assert_eq!(sandbox.say(BOOT_ID), self.boot);
        assert!(
            sandbox.has_process(&self.pid),
            "process {} is gone",
            self.pid
        );
        assert_eq!(sandbox.say(&format!("cat {KEPT}")), "still here");
        sandbox.keep();
    }
}

pub(crate) fn during_create(rig: &Rig) {
    let server = Server::start_with(&rig.binary, NONE_PREPARED);
    let cut_off = kill_during_creates(server, 0, CREATE_MOMENTS_MS);
    assert!(
        cut_off >= CREATE_MOMENTS_MS.len() / 2,
        "only {cut_off} creates were cut off"
    );
}

pub(crate) fn during_claim(rig: &Rig) {
    let server = Server::start(&rig.binary);
    let cut_off = kill_during_creates(server, PREPARED, CLAIM_MOMENTS_MS);
    assert!(cut_off > 0, "no create was cut off");
}

/// Kills a server that keeps so many VMs ready at each of these moments of a
/// create, and says how many of the creates were cut off.
fn kill_during_creates<const N: usize>(
    mut server: Server,
    prepared: usize,
    moments_ms: [u64; N],
) -> usize {
    let survivor = Survivor::new(&server);
    let mut cut_off = 0;
    for after_ms in moments_ms {
        let name = format!("create {after_ms}");
        let body = json!({ "timeout_sec": 3600, "name": name, "env": { "MOMENT": name } });
        let headers = [("idempotency-key", name.as_str())];
        let api = server.api();
        // Also waits until as many are ready as shall be.
        let survivors = BTreeSet::from([survivor.id.clone()]);
        exactly(&server, &api, &survivors, prepared, &name);
        let answered = thread::scope(|scope| {
            let create = scope.spawn(|| api.try_post("/sandboxes?wait=true", &body, &headers));
            // No condition to wait for: the moment is what is tried.
            thread::sleep(Duration::from_millis(after_ms));
            server.kill_9();
            create.join().unwrap()
        });
        cut_off += usize::from(answered.is_err());
        server.restart();
        survivor.check(&server);

        let api = server.api();
        let mut expected = BTreeSet::from([survivor.id.clone()]);
        let begun = begun(&api, &name);
        if let Ok(answer) = &answered {
            let created = answer.ok(201);
            assert_eq!(
                begun.as_ref().map(|b| &b["id"]),
                Some(&created["id"]),
                "{name}"
            );
        }
        // Whoever asks again with the same key gets that one, or a first one.
        let again = api.try_post("/sandboxes?wait=true", &body, &headers);
        let sandbox = Sandbox::known(&api, again.unwrap().ok(201));
        if let Some(begun) = begun {
            assert_eq!(begun["id"], sandbox.id, "{name}");
        }
        sandbox.runs();
        assert_eq!(sandbox.exec("echo $MOMENT"), Ran::ok(&format!("{name}\n")));
        sandbox.upload(KEPT, name.as_bytes());
        assert_eq!(sandbox.say(&format!("cat {KEPT}")), name);
        expected.insert(sandbox.id.clone());
        exactly(&server, &api, &expected, prepared, &name);
        sandbox.destroy();
    }
    end(server, &survivor);
    cut_off
}

pub(crate) fn during_destroy(rig: &Rig) {
    let mut server = Server::start(&rig.binary);
    let survivor = Survivor::new(&server);
    let mut cut_off = 0;
    for after_ms in DESTROY_MOMENTS_MS {
        let what = format!("destroy after {after_ms} ms");
        let api = server.api();
        let doomed = Sandbox::new(&api);
        doomed.upload(KEPT, b"perhaps");
        let path = doomed.at("");
        let record = doomed.record.clone();
        doomed.keep();
        let answered = thread::scope(|scope| {
            let destroy = scope.spawn(|| api.try_delete(&path));
            // No condition to wait for: the moment is what is tried.
            thread::sleep(Duration::from_millis(after_ms));
            server.kill_9();
            destroy.join().unwrap()
        });
        cut_off += usize::from(answered.is_err());
        server.restart();
        survivor.check(&server);

        let api = server.api();
        let doomed = Sandbox::known(&api, record);
        let state = eventually(&format!("{what}: gone or untouched"), || {
            let state = doomed.get()["state"].clone();
            let ran = api.post(
                &doomed.at("/exec"),
                &json!({ "command": format!("cat {KEPT}") }),
            );
            let untouched = state == "running" && ran.status == 200;
            if untouched {
                assert_eq!(ran.ok(200)["data"]["stdout"], "perhaps", "{what}");
            }
            (untouched || state == "destroyed").then_some(state)
        });
        if let Ok(answer) = &answered {
            assert_eq!(answer.ok(200)["state"], "destroyed");
            assert_eq!(state, "destroyed", "{what}");
        }
        let mut expected = BTreeSet::from([survivor.id.clone()]);
        if state == "running" {
            expected.insert(doomed.id.clone());
            exactly(&server, &api, &expected, PREPARED, &what);
            expected.remove(&doomed.id);
        }
        doomed.destroy();
        exactly(&server, &api, &expected, PREPARED, &what);
    }
    assert!(cut_off > 0, "no destroy was cut off");
    end(server, &survivor);
}

pub(crate) fn during_start(rig: &Rig) {
    let neighbour_api = rig.api();
    let neighbour = Sandbox::new(&neighbour_api);
    let boot = neighbour.say(BOOT_ID);
    let mut server = Server::start(&rig.binary);
    let survivor = Survivor::new(&server);
    let mut cut_off = 0;
    for after_ms in START_MOMENTS_MS {
        // A create to finish and network slots to reap for each start.
        let api = server.api();
        let record = api
            .post("/sandboxes?wait=0", &json!({ "timeout_sec": 3600 }))
            .ok(201);
        server.kill_9();
        cut_off += usize::from(!server.start_and_kill(Duration::from_millis(after_ms)));
        server.restart();
        survivor.check(&server);
        let api = server.api();
        let sandbox = Sandbox::known(&api, record);
        sandbox.runs();
        assert_eq!(sandbox.exec("echo alive"), Ran::ok("alive\n"));
        let mut expected = BTreeSet::from([survivor.id.clone(), sandbox.id.clone()]);
        let when = format!("killed {after_ms} ms after its start");
        exactly(&server, &api, &expected, PREPARED, &when);
        expected.remove(&sandbox.id);
        sandbox.destroy();
        exactly(&server, &api, &expected, PREPARED, &when);
    }
    assert!(cut_off > 0, "no start was cut off");
    end(server, &survivor);
    // Another server's sandboxes were none of its business.
    assert_eq!(neighbour.say(BOOT_ID), boot);
}

/// What a create that was cut off has left in the listing.
fn begun(api: &Api, name: &str) -> Option<Value> {
    let list = api.get("/sandboxes").ok(200);
    let sandboxes = list["data"].as_array().unwrap();
    let mut named = sandboxes.iter().filter(|sandbox| sandbox["name"] == name);
    let found = named.next().cloned();
    assert!(named.next().is_none(), "two of {name}: {list}");
    if let Some(found) = &found {
        let state = found["state"].as_str().unwrap();
        assert!(matches!(state, "provisioning" | "running"), "{found}");
    }
    found
}

/// That the API and the kernel agree: these sandboxes run, and nothing else
/// of this server is there but the VMs and network slots it keeps ready.
fn exactly(server: &Server, api: &Api, expected: &BTreeSet<String>, prepared: usize, when: &str) {
    let live: BTreeSet<_> = api.live().into_iter().collect();
    assert_eq!(&live, expected, "{when}");
    let there = expected.len() + prepared;
    let fits = |vms: &Vms| {
        vms.recorded.len() == there
            && vms.open == vms.recorded
            && vms.limited == vms.recorded
            && vms.processes.len() == there
            && vms.slots == there + SLOTS_READY
            && vms.namespaces == vms.slots
    };
    // Slots are made and removed beside the requests.
    let fitting = try_eventually(SOON, || {
        let vms = server.vms();
        fits(&vms).then_some(vms)
    });
    assert!(
        fitting.is_some(),
        "{when}: {} sandboxes run, {prepared} are to be ready, and this machine has {:?}",
        expected.len(),
        server.vms()
    );
}

fn end(server: Server, survivor: &Survivor) {
    survivor.check(&server);
    let api = server.api();
    Sandbox::known(&api, survivor.record.clone()).destroy();
    server.finish().unwrap();
}
