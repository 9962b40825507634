//! One client: it works on sandboxes of its own and remembers what must be
//! true of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::Counts;
use crate::demo::api::{Api, Refused};

/// Most sandboxes of one client.
const SANDBOXES: usize = 2;

/// Pause before a server that is away is looked for again.
const AWAY: Duration = Duration::from_millis(20);

/// A file in every sandbox.
const MARK: &str = "/workspace/mark";

/// Tells one boot of a guest from every other.
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

/// What must be true of a sandbox.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    pub(super) id: String,
    /// What its file may hold, none for no file: one thing, or more while
    /// nobody knows whether a write arrived.
    marks: Vec<Option<String>>,
    /// Its guest's memory knows this, as long as it lives.
    boot: Option<String>,
    /// Its destruction was asked for, and nobody knows whether that arrived.
    pub(super) doomed: bool,
    /// It was seen running before the present round.
    pub(super) proven: bool,
}

/// One client.
pub(super) struct Worker {
    number: usize,
    created: u64,
    random: StdRng,
    pub(super) sandboxes: Vec<Sandbox>,
    done: BTreeMap<&'static str, u64>,
    refused: BTreeMap<String, u64>,
}

impl Worker {
    pub(super) fn new(number: usize, seed: u64) -> Self {
        Self {
            number,
            created: 0,
            random: StdRng::seed_from_u64(seed),
            sandboxes: Vec::new(),
            done: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Which names its sandboxes have.
    pub(super) fn owns(&self, name: &str) -> bool {
        name.starts_with(&format!("chaos-{}-", self.number))
    }

    /// Takes up a sandbox whose creation was not heard of.
    pub(super) fn take_up(&mut self, id: String) {
        self.sandboxes.push(Sandbox {
            id,
            marks: vec![None],
            boot: None,
            doomed: false,
            proven: false,
        });
    }

    pub(super) fn take_counts(&mut self, counts: &mut Counts) {
        for (name, count) in std::mem::take(&mut self.done) {
            *counts.done.entry(name).or_default() += count;
        }
        for (code, count) in std::mem::take(&mut self.refused) {
            *counts.refused.entry(code).or_default() += count;
        }
    }

    /// Does one thing after the other. Fails only over what must never be.
    pub(super) fn work(&mut self, address: &Path, key: &str, until: Instant) -> Result<()> {
        while Instant::now() < until {
            // A new start listens elsewhere.
            let Ok(address) = fs::read_to_string(address) else {
                thread::sleep(AWAY);
                continue;
            };
            let api = Api::new(&format!("http://{}", address.trim()), key);
            let Err(error) = self.step(&api) else {
                continue;
            };
            match error.downcast_ref::<Refused>() {
                Some(refused) => self.judge(refused)?,
                // The server is away, or was while it answered.
                None if error.is::<Wrong>() => return Err(error),
                None => thread::sleep(AWAY),
            }
        }
        Ok(())
    }

    /// A refusal has a reason that fits what was done to the server.
    fn judge(&mut self, refused: &Refused) -> Result<()> {
        *self.refused.entry(refused.code.clone()).or_default() += 1;
        ensure!(
            refused.code != "INTERNAL" && !refused.code.is_empty(),
            "{refused}"
        );
        Ok(())
    }

    fn step(&mut self, api: &Api) -> Result<()> {
        if self.sandboxes.is_empty() || self.sandboxes.len() < SANDBOXES && self.one_in(4) {
            return self.create(api);
        }
        let index = self.random.random_range(0..self.sandboxes.len());
        match self.random.random_range(0..10) {
            0 => self.destroy(api, index),
            1 | 2 => self.pause(api, index),
            3 => self.restore(api, index),
            4..7 => self.write(api, index),
            _ => self.prove(api, index),
        }
    }

    fn one_in(&mut self, of: u32) -> bool {
        self.random.random_range(0..of) == 0
    }

    fn did(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn create(&mut self, api: &Api) -> Result<()> {
        self.created += 1;
        let name = format!("chaos-{}-{}", self.number, self.created);
        let record = api.create(&json!({ "name": name, "timeout_sec": 3600 }))?;
        let Some(id) = record["id"].as_str() else {
            bail!(Wrong(format!("a create without an id: {record}")));
        };
        self.take_up(id.to_owned());
        self.did("create");
        Ok(())
    }

    fn destroy(&mut self, api: &Api, index: usize) -> Result<()> {
        self.sandboxes[index].doomed = true;
        let id = self.sandboxes[index].id.clone();
        api.destroy(&id)?;
        self.sandboxes.remove(index);
        self.did("destroy");
        Ok(())
    }

    fn write(&mut self, api: &Api, index: usize) -> Result<()> {
        let mark = format!("mark {}", self.random.random::<u64>());
        let sandbox = &mut self.sandboxes[index];
        sandbox.marks.push(Some(mark.clone()));
        api.upload(&sandbox.id, MARK, mark.as_bytes())?;
        sandbox.marks = vec![Some(mark)];
        self.did("write a file");
        Ok(())
    }

    fn pause(&mut self, api: &Api, index: usize) -> Result<()> {
        let id = self.sandboxes[index].id.clone();
        api.post(&format!("/sandboxes/{id}/pause"), &json!({}))?;
        self.did("pause");
        api.post(&format!("/sandboxes/{id}/resume"), &json!({}))?;
        self.did("resume");
        Ok(())
    }

    /// Snapshot, change, restore: the change is undone.
    fn restore(&mut self, api: &Api, index: usize) -> Result<()> {
        let id = self.sandboxes[index].id.clone();
        let snapshot = api.post(&format!("/sandboxes/{id}/snapshots"), &json!({}))?;
        self.did("snapshot");
        let kept = self.sandboxes[index].marks.clone();
        let written = self.write(api, index);
        let snapshot = snapshot_id(&snapshot)?;
        let sandbox = &mut self.sandboxes[index];
        sandbox.marks.extend(kept.iter().cloned());
        written?;
        api.post(&format!("/sandboxes/{id}/restore/{snapshot}"), &json!({}))?;
        self.sandboxes[index].marks = kept;
        self.did("restore");
        api.delete(&format!("/sandboxes/{id}/snapshots/{snapshot}"))?;
        Ok(())
    }

    fn prove(&mut self, api: &Api, index: usize) -> Result<()> {
        self.sandboxes[index].prove(api)?;
        self.did("look");
        Ok(())
    }
}

fn snapshot_id(answer: &Value) -> Result<String> {
    let record = answer.get("data").unwrap_or(answer);
    match record["id"].as_str() {
        Some(id) => Ok(id.to_owned()),
        None => bail!(Wrong(format!("a snapshot without an id: {answer}"))),
    }
}

impl Sandbox {
    /// Looks at its file and its memory.
    pub(super) fn prove(&mut self, api: &Api) -> Result<()> {
        let said = api.exec(&self.id, &format!("{BOOT_ID}; cat {MARK} 2>/dev/null"))?;
        let (boot, mark) = said.stdout.split_once('\n').unwrap_or((&said.stdout, ""));
        let id = &self.id;
        if let Some(known) = &self.boot
            && known != boot
        {
            bail!(Wrong(format!("{id} was booted anew: {known}, now {boot}")));
        }
        let mark = (!mark.is_empty()).then(|| mark.to_owned());
        if !self.marks.contains(&mark) {
            let known = &self.marks;
            bail!(Wrong(format!(
                "{id} holds {mark:?} and not one of {known:?}"
            )));
        }
        self.boot = Some(boot.to_owned());
        self.marks = vec![mark];
        Ok(())
    }
}

/// What must never be, whatever was done to the server.
#[derive(Debug)]
pub(super) struct Wrong(pub(super) String);

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}
