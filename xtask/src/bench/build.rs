//! What building templates takes: again with nothing changed, with the last
//! step changed, packing beside `tar` and `mkfs.erofs`, and what templates over
//! one base share.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::report::{Bound, Findings, Target};
use super::{Measure, ON_DEMAND, how, id_of, milliseconds, served, tool};
use crate::build::example;
use crate::command;
use crate::demo::api::Api;
use crate::setup::Product;

/// Steps of the template that is built again and again.
const STEPS: usize = 5;

/// What each of many templates adds to their base, in MiB.
const OWN_MIB: u64 = 20;

/// How long the server may take to remove images that nobody needs any more.
const REMOVED: Duration = Duration::from_secs(120);

/// How often it is looked; nobody notifies.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const MIB: f64 = 1_048_576.0;

/// Builds, and what they leave.
#[derive(clap::Args)]
pub(crate) struct Build {
    /// Times each build and each packing is done.
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Sandboxes of a custom template beside as many of the default one.
    #[arg(long, default_value_t = 20)]
    creates: usize,
    /// Templates over one base.
    #[arg(long, default_value_t = 10)]
    templates: usize,
    /// The files that are packed.
    #[arg(long, value_name = "DIR", default_value = "/usr/share")]
    tree: PathBuf,
}

impl Measure for Build {
    fn measure(&self, product: &Product) -> Result<Findings> {
        let basis = format!("{} turns, {} creates", self.turns, self.creates);
        let mut found = Findings::of(basis);
        self.pack(&mut found)?;
        served(product, ON_DEMAND, |server| {
            let api = server.api()?;
            let rootfs = Path::new(&product.home).join("rootfs");
            let before = images(&rootfs)?;
            let measured = self
                .again(&api, &mut found)
                .and_then(|()| self.sharing(&api, product.home.as_ref(), &mut found));
            let removed = remove_templates(&api, &rootfs, before);
            measured?;
            removed
        })?;
        Ok(found)
    }
}

impl Build {
    /// A template of five steps, built again and again, and its sandboxes.
    fn again(&self, api: &Api, found: &mut Findings) -> Result<()> {
        let first = Instant::now();
        let spec = |last: &str| {
            let steps = (1..STEPS).map(|step| format!("echo {step} > /srv/{step}"));
            let steps = steps.chain([format!("echo {last} > /srv/last")]);
            let steps = steps.map(|run| json!({ "run": run }));
            json!({ "from": "miosa-sandbox", "steps": steps.collect::<Vec<_>>() })
        };
        let slug = create(api, "bench-steps", &spec("first"))?;
        build(api, &slug, &spec("first"))?;
        found.one("first build, five steps", "ms", milliseconds(first));
        let (mut same, mut changed) = (Vec::new(), Vec::new());
        // A layer goes with the last image that needs it.
        let mut last = "first".to_owned();
        for turn in 0..self.turns {
            let began = Instant::now();
            let built = build(api, &slug, &spec(&last))?;
            same.push(milliseconds(began));
            let cached = &built["snapshot_manifest"]["cached_steps"];
            ensure!(*cached == STEPS, "{cached} of {STEPS} steps were there");
            let began = Instant::now();
            last = format!("{turn} {}", nonce()?);
            let built = build(api, &slug, &spec(&last))?;
            changed.push(milliseconds(began));
            let cached = &built["snapshot_manifest"]["cached_steps"];
            ensure!(*cached == STEPS - 1, "{cached} of {STEPS} steps were there");
        }
        let same = found.spread("build again, nothing changed", "ms", same)?;
        found.spread("build again, the last step changed", "ms", changed)?;
        found.count("steps that need not run then", STEPS - 1, STEPS);

        let (mut default, mut custom) = (Vec::new(), Vec::new());
        // The first of each reads its seed from the disk.
        sandbox(api, &json!({}))?;
        sandbox(api, &json!({ "template_id": slug }))?;
        for _ in 0..self.creates {
            default.push(sandbox(api, &json!({}))?);
            custom.push(sandbox(api, &json!({ "template_id": slug }))?);
        }
        let default = found.spread("create to ready, default template (floor)", "ms", default)?;
        let custom = found.against(&default, "create to ready, custom template", custom)?;
        found.targets.extend([
            Target::new(
                "build again with nothing changed, p50",
                Bound::AtMost(5.0),
                "s",
                same.spread.p50 / 1000.0,
            ),
            Target::new(
                "create of a custom template / of the default, p50",
                Bound::AtMost(1.1),
                "",
                custom.over(&default),
            )
            .beside(default.as_floor()),
        ]);
        Ok(())
    }

    /// An archive made a layer, beside its files unpacked and packed by hand.
    fn pack(&self, found: &mut Findings) -> Result<()> {
        tool::install(&[("mkfs.erofs", "erofs-utils", "packs by hand")])?;
        let program = example("emberbox-image", "pack")?;
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let archive = directory.path().join("archive.tar");
        command::run(
            Command::new("tar")
                .arg("--create")
                .arg("--file")
                .arg(&archive)
                .arg("--directory")
                .arg("/")
                .arg(self.tree.strip_prefix("/").unwrap_or(&self.tree)),
        )?;
        let (mut hand, mut ours) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for turn in 0..self.turns {
            hand.push(by_hand(
                &archive,
                &directory.path().join(format!("hand-{turn}")),
            )?);
            let home = directory.path().join(format!("home-{turn}"));
            let output = Command::new(&program).arg(&home).arg(&archive).output()?;
            ensure!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let (micros, size) = said.trim().split_once(' ').context("it said nothing")?;
            ours.push(micros.parse::<f64>()? / 1000.0);
            bytes = size.parse()?;
            fs::remove_dir_all(&home)?;
        }
        let hand = found.spread("`tar` and `mkfs.erofs` by hand, synced (floor)", "ms", hand)?;
        let ours = found.against(
            &hand,
            "an archive becomes a layer, synced and digested",
            ours,
        )?;
        found.one(
            "the layer",
            "MiB",
            f64::from(u32::try_from(bytes / 1024)?) / 1024.0,
        );
        let target = "packing: speed / of `tar` and `mkfs.erofs` by hand, p50";
        let target = Target::new(target, Bound::AtLeast(0.5), "", hand.over(&ours));
        found.targets.push(target.beside(hand.as_floor()));
        Ok(())
    }

    /// Templates that add a file each to one base.
    fn sharing(&self, api: &Api, home: &Path, found: &mut Findings) -> Result<()> {
        let rootfs = home.join("rootfs");
        let (layers, seeds) = (allocated(&rootfs)?, allocated(&home.join("seeds"))?);
        for template in 0..self.templates {
            let run = format!("head -c {OWN_MIB}M /dev/urandom > /srv/own # {}", nonce()?);
            let spec = json!({ "from": "miosa-sandbox", "steps": [{ "run": run }] });
            let slug = create(api, &format!("bench-own-{template}"), &spec)?;
            build(api, &slug, &spec)?;
        }
        let grown = allocated(&rootfs)? - layers;
        let base = layer_of(&rootfs, "miosa-sandbox")?;
        let own = (OWN_MIB * self.templates as u64) as f64;
        let (n, base) = (self.templates, base as f64 / MIB);
        let grown = grown as f64 / MIB;
        found.one("layers of the base", "MiB", base);
        found.one(format!("what {n} templates add to it"), "MiB", own);
        found.one(
            format!("layers of {n} templates without the base's"),
            "MiB",
            grown,
        );
        let seeds = (allocated(&home.join("seeds"))? - seeds) as f64 / MIB;
        found.one(format!("memory snapshots of {n} templates"), "MiB", seeds);
        found.targets.push(
            Target::new(
                format!("layers of {n} templates / base and what they add"),
                Bound::AtMost(1.05),
                "",
                (base + grown) / (base + own),
            )
            .beside(format!("base {base:.0} MiB, added {own:.0} MiB")),
        );
        Ok(())
    }
}

/// Makes a template and gives its slug.
fn create(api: &Api, name: &str, spec: &Value) -> Result<String> {
    let body = json!({ "name": name, "build_spec": spec });
    let answer = api.post("/sandbox-templates", &body)?;
    let slug = answer["data"]["slug"].as_str();
    Ok(slug.context("a template without a slug")?.to_owned())
}

/// Builds a template, and gives the build that is ready.
fn build(api: &Api, slug: &str, spec: &Value) -> Result<Value> {
    let path = format!("/sandbox-templates/{slug}/builds");
    let queued = api.post(&path, &json!({ "build_spec": spec }))?;
    let id = id_of(&queued["data"])?;
    loop {
        // Below the longest that the client waits for an answer.
        let path = format!("/sandbox-template-builds/{id}?wait=30");
        let build = api.get(&path)?["data"].clone();
        match build["state"].as_str() {
            Some("ready") => return Ok(build),
            Some("failed" | "cancelled") | None => anyhow::bail!("the build of {slug}: {build}"),
            Some(_) => {}
        }
    }
}

/// A sandbox that is made and destroyed, in milliseconds until it is ready.
fn sandbox(api: &Api, body: &Value) -> Result<f64> {
    let began = Instant::now();
    let (sandbox, timing) = api.create_timed(body)?;
    let took = milliseconds(began);
    ensure!(
        sandbox["ready"] == true,
        "not ready after create: {sandbox}"
    );
    ensure!(
        how(&timing) == "on_demand",
        "it came up otherwise: {timing}"
    );
    api.destroy(id_of(&sandbox)?)?;
    Ok(took)
}

/// Unpacks and packs, in milliseconds.
fn by_hand(archive: &Path, directory: &Path) -> Result<f64> {
    let (tree, image) = (directory.join("tree"), directory.join("image.erofs"));
    fs::create_dir_all(&tree)?;
    let began = Instant::now();
    command::run(
        Command::new("tar")
            .arg("--extract")
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(&tree),
    )?;
    let mkfs = tool::which("mkfs.erofs").context("mkfs.erofs is not installed")?;
    command::run(Command::new(mkfs).arg("--quiet").arg(&image).arg(&tree))?;
    fs::File::open(&image)?.sync_all()?;
    let took = milliseconds(began);
    fs::remove_dir_all(directory)?;
    Ok(took)
}

/// Deletes the templates of this bench and waits until their images are gone.
fn remove_templates(api: &Api, rootfs: &Path, before: usize) -> Result<()> {
    let list = api.get("/sandbox-templates")?;
    for template in list["data"].as_array().into_iter().flatten() {
        if let Some(slug) = template["slug"].as_str()
            && slug.starts_with("bench-")
        {
            api.delete(&format!("/sandbox-templates/{slug}"))?;
        }
    }
    let deadline = Instant::now() + REMOVED;
    while images(rootfs)? > before {
        ensure!(
            Instant::now() < deadline,
            "images of deleted templates stay"
        );
        thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// How many images builds have made.
fn images(rootfs: &Path) -> Result<usize> {
    let entries = fs::read_dir(rootfs).context("no images")?;
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names
        .filter(|name| name.to_string_lossy().starts_with("built-"))
        .count())
}

/// What the layers of a template take, in bytes.
fn layer_of(rootfs: &Path, template: &str) -> Result<u64> {
    let text = fs::read(rootfs.join(format!("{template}.json")))?;
    let manifest: Value = serde_json::from_slice(&text)?;
    let layers = manifest["layers"].as_array().context("no layers")?;
    let home = rootfs.parent().context("a directory in a home")?;
    let sizes = layers.iter().map(|layer| {
        let path = home.join(layer.as_str().context("a layer is a path")?);
        Ok(on_disk(&fs::metadata(path)?))
    });
    sizes.sum()
}

/// What a directory takes on disk, in bytes.
fn allocated(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        bytes += if facts.is_dir() {
            allocated(&entry.path())?
        } else {
            on_disk(&facts)
        };
    }
    Ok(bytes)
}

fn on_disk(facts: &fs::Metadata) -> u64 {
    /// The unit of `st_blocks` (stat(2)).
    const BLOCK: u64 = 512;
    facts.blocks() * BLOCK
}

/// So that no earlier run's step is found.
fn nonce() -> Result<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(now.as_nanos().to_string())
}
