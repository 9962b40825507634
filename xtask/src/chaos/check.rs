//! What the API says, held against what is there.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::load::{Sandbox, Worker};
use super::{Counts, leak};
use crate::demo::api::Api;
use crate::demo::server::Server;

/// Longest until everything begun is done: a create may have to boot.
const SETTLED: Duration = Duration::from_secs(120);

/// How often is looked meanwhile.
const POLL: Duration = Duration::from_millis(50);

/// Looks at every sandbox there is, destroys what is lost, and counts.
/// `killed` VMMs were killed since the last look.
pub(super) fn everything(
    server: &Server,
    workers: &mut [Worker],
    killed: u32,
    counts: &mut Counts,
) -> Result<()> {
    let api = server.api()?;
    let records = settled(&api)?;
    take_up_unheard(workers, &records)?;
    let mut lost_of_old = 0;
    for worker in workers.iter_mut() {
        let mut kept = Vec::new();
        for sandbox in worker.sandboxes.drain(..) {
            let was_proven = sandbox.proven;
            match look(&api, sandbox)? {
                Looked::AsItWas(sandbox) => {
                    counts.proven += 1;
                    kept.push(sandbox);
                }
                Looked::Lost => {
                    counts.lost += 1;
                    lost_of_old += u32::from(was_proven);
                }
                Looked::Destroyed => {}
            }
        }
        worker.sandboxes = kept;
        worker.take_counts(counts);
    }
    ensure!(
        lost_of_old <= killed,
        "{lost_of_old} sandboxes that ran before were lost, and {killed} VMMs were killed"
    );
    machine_agrees(server, &api)
}

/// The records of all sandboxes that are not over, once none is on its way.
fn settled(api: &Api) -> Result<Vec<Value>> {
    let deadline = Instant::now() + SETTLED;
    loop {
        let list = api.get("/sandboxes")?;
        let records = list["data"].as_array().context("no list of sandboxes")?;
        let live = records.iter().filter(|r| r["state"] != "destroyed");
        let live: Vec<_> = live.cloned().collect();
        if live.iter().all(|r| r["state"] != "provisioning") {
            return Ok(live);
        }
        ensure!(
            Instant::now() < deadline,
            "a sandbox is never ready: {live:?}"
        );
        thread::sleep(POLL);
    }
}

/// A create that was cut off may have been done all the same.
fn take_up_unheard(workers: &mut [Worker], records: &[Value]) -> Result<()> {
    for record in records {
        let id = record["id"].as_str().context("a record without an id")?;
        let name = record["name"].as_str().context("a sandbox of nobody's")?;
        let known = |worker: &Worker| worker.sandboxes.iter().any(|s| s.id == id);
        if !workers.iter().any(known) {
            let owner = workers.iter_mut().find(|worker| worker.owns(name));
            owner
                .with_context(|| format!("a sandbox of nobody's: {record}"))?
                .take_up(id.to_owned());
        }
    }
    Ok(())
}

enum Looked {
    AsItWas(Sandbox),
    Lost,
    Destroyed,
}

fn look(api: &Api, mut sandbox: Sandbox) -> Result<Looked> {
    let path = format!("/sandboxes/{}", sandbox.id);
    let record = api.get(&path)?;
    match record["state"].as_str() {
        Some("paused") => {
            let resumed = api.post(&format!("{path}/resume"), &json!({}))?;
            ensure!(resumed["state"] == "running", "not resumed: {resumed}");
        }
        Some("running") => {}
        Some("error") => {
            told_of_its_end(api, &path)?;
            api.destroy(&sandbox.id)?;
            return Ok(Looked::Lost);
        }
        Some("destroyed") if sandbox.doomed => return Ok(Looked::Destroyed),
        state => anyhow::bail!("{} is {state:?}: {record}", sandbox.id),
    }
    if sandbox.doomed {
        // Asked for, and never arrived.
        api.destroy(&sandbox.id)?;
        return Ok(Looked::Destroyed);
    }
    sandbox.prove(api)?;
    sandbox.proven = true;
    Ok(Looked::AsItWas(sandbox))
}

/// An honest end has an event; the stream closes by itself after it.
fn told_of_its_end(api: &Api, path: &str) -> Result<()> {
    let mut told = false;
    api.events(&format!("{path}/events"), |name, data| {
        told |= name == "error" && data["message"].is_string();
    })?;
    ensure!(told, "{path} is in error and no event says why");
    Ok(())
}

/// As many VMMs and records as there are running sandboxes, and prepared VMs
/// beside them.
fn machine_agrees(server: &Server, api: &Api) -> Result<()> {
    let data_dir = server.data_dir();
    let deadline = Instant::now() + SETTLED;
    loop {
        let running = api.get("/sandboxes?state=running")?;
        let running = running["data"].as_array().map_or(0, Vec::len);
        let prepared = prepared(&data_dir)?;
        let vmms = leak::vmms(&data_dir)?.len();
        let recorded = entries(&data_dir.join("vms"))?;
        let there = running + prepared;
        if (vmms, recorded) == (there, there) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{running} sandboxes run and {prepared} VMs are prepared, with {vmms} VMMs and \
             {recorded} records"
        );
        thread::sleep(POLL);
    }
}

/// VMs that the server prepared for nobody yet.
fn prepared(data_dir: &Path) -> Result<usize> {
    let vms = fs::read_dir(data_dir.join("vms")).context("cannot list the records")?;
    let records = vms.flatten().filter_map(|vm| {
        // One may go while it is looked at.
        let record = fs::read(vm.path().join("record.json")).ok()?;
        serde_json::from_slice::<Value>(&record).ok()
    });
    Ok(records.filter(|record| record["sandbox"].is_null()).count())
}

/// After the end of every sandbox and of the server: no VM, no snapshot.
pub(super) fn nothing_left(data_dir: &Path) -> Result<()> {
    for directory in ["vms", "snapshots"] {
        let left = entries(&data_dir.join(directory))?;
        ensure!(left == 0, "{left} entries are left in {directory}");
    }
    Ok(())
}

fn entries(directory: &Path) -> Result<usize> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.count()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("cannot list {}", directory.display())),
    }
}
