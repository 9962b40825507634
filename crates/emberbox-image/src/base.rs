//! The base template: a root file system made of the distribution's packages.
//!
//! Decides: which packages a sandbox starts with, and what is different from
//! a machine they are installed on (`base/customize.sh`).
//!
//! The image is erofs without compression: all sandboxes share the pages of
//! one file, and an emulated CPU reads it half as fast again from lz4.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::apt::Apt;
use crate::command::Run;
use crate::digest;
use crate::error::ImageError;
use crate::home::{Home, Workshop};
use crate::kernel::Freshness;
use crate::progress::Progress;
use crate::record::{read_json, to_json};
use crate::sources::{self, Distribution};

/// The name of the base template.
pub const NAME: &str = "miosa-sandbox";

/// Raised when the build changes in a way that its inputs do not show.
const FORMAT: &str = "base 1";

/// What a sandbox starts with.
const PACKAGES: [&str; 18] = [
    "bash",
    "build-essential",
    "ca-certificates",
    "coreutils",
    "curl",
    "git",
    "iproute2",
    "less",
    "locales",
    "nodejs",
    "npm",
    "procps",
    "python3",
    "python3-pip",
    "python3-venv",
    "sudo",
    "unzip",
    "vim-tiny",
];

/// Settings of dpkg, in force in the guest as well: a sandbox's disk is thrown
/// away, so nothing has to survive a crash of the guest, and what is only for
/// people to read takes no place.
const DPKG: [&str; 6] = [
    "force-unsafe-io",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
];

/// How the messages of mmdebstrap begin that tell of a step that takes time.
const SHOWN: [&str; 3] = ["downloading", "extracting", "installing"];

const CUSTOMIZE: &str = include_str!("base/customize.sh");

/// The same for every image: nothing finds a layer by it.
const UUID: &str = "656d6265-7262-6f78-0000-6c6179657230";

/// Where an operator puts certificates the host shall trust.
const HOST_CA: &str = "/usr/local/share/ca-certificates";

/// Which layer a recipe gave.
#[derive(Debug, Serialize, Deserialize)]
struct Built {
    layer: String,
}

/// A certificate authority of the host, as it goes into a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    file: String,
    pem: Vec<u8>,
}

/// The authorities an operator made this host trust.
pub(crate) fn host_certificates() -> Result<Vec<Certificate>, ImageError> {
    certificates(Path::new(HOST_CA))
}

fn certificates(dir: &Path) -> Result<Vec<Certificate>, ImageError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ImageError::io("list", dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(ImageError::io("list", dir))?.path();
        // update-ca-certificates looks at no other names.
        if path.extension().is_some_and(|extension| extension == "crt") {
            found.push(Certificate {
                file: path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                pem: fs::read(&path).map_err(ImageError::io("read", &path))?,
            });
        }
    }
    found.sort_by(|left, right| left.file.cmp(&right.file));
    Ok(found)
}

/// The layers of the base template, lowest first; made if they are not in the
/// home.
pub(crate) fn ensure(
    home: &Home,
    certificates: &[Certificate],
    freshness: Freshness,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>, ImageError> {
    let distribution = Distribution::of_host()?;
    // The dot keeps it from being a template's name.
    let sources = sources::to_deb822(&sources::of_host(&distribution)?);
    let record = format!(".recipe-{}.json", recipe(&sources, certificates));
    let built = || -> Result<Option<Vec<PathBuf>>, ImageError> {
        let layer = read_json::<Built>(&home.rootfs().join(&record))?
            .map(|built| home.rootfs().join(built.layer));
        Ok(layer
            .filter(|layer| layer.is_file())
            .map(|layer| vec![layer]))
    };
    if freshness == Freshness::Cached
        && let Some(layers) = built()?
    {
        return Ok(layers);
    }
    let workshop = home.workshop("rootfs", progress)?;
    // Another process may have made it while this one waited.
    if freshness == Freshness::Cached
        && let Some(layers) = built()?
    {
        return Ok(layers);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(ImageError::NotRoot {
            doing: "make the base template (its files belong to root)",
        });
    }
    let work = workshop.temporary_dir("base")?;
    let tree = bootstrap(&work, &distribution, certificates, progress)?;
    let image = pack(&workshop, &tree, progress)?;
    // What of the tree is still in memory only is not written any more: it
    // would take longer than the image itself.
    workshop.discard(&work)?;
    let layer = publish(&workshop, &image, progress)?;
    workshop.publish_bytes(&record, &to_json(&Built { layer }))?;
    Ok(built()?.unwrap_or_default())
}

/// Names all that decides what is in the layer, but for the versions of the
/// packages: asking for those takes the network every time.
fn recipe(sources: &str, certificates: &[Certificate]) -> String {
    let mut parts: Vec<&[u8]> = [FORMAT, sources, CUSTOMIZE]
        .iter()
        .chain(&PACKAGES)
        .chain(&DPKG)
        .map(|part| part.as_bytes())
        .collect();
    for certificate in certificates {
        parts.push(certificate.file.as_bytes());
        parts.push(&certificate.pem);
    }
    digest::short(&digest::key(parts)).to_owned()
}

/// Installs the packages into a new tree below `work`.
fn bootstrap(
    work: &Path,
    distribution: &Distribution,
    certificates: &[Certificate],
    progress: &dyn Progress,
) -> Result<PathBuf, ImageError> {
    let put = |name: &str, bytes: &[u8]| -> Result<PathBuf, ImageError> {
        let path = work.join(name);
        fs::write(&path, bytes).map_err(ImageError::io("write", &path))?;
        Ok(path)
    };
    progress.step("base template: reading package lists");
    let apt = Apt::update(&work.join("apt"), distribution)?;
    let customize = put("customize.sh", CUSTOMIZE.as_bytes())?;
    fs::set_permissions(&customize, fs::Permissions::from_mode(0o755))
        .map_err(ImageError::io("protect", &customize))?;

    let tree = work.join("tree");
    // A mount and a process namespace that end with this process: a killed
    // build leaves neither mounts nor a package script that runs on.
    let mut run = Run::new("setpriv")?
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["mmdebstrap", "--mode=root", "--variant=minbase"])
        .args(DPKG.map(|setting| format!("--dpkgopt={setting}")))
        .arg(format!("--aptopt={}", apt.fetch_config().display()))
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(format!("--customize-hook={}", customize.display()));
    if !certificates.is_empty() {
        let dir = work.join("ca");
        fs::create_dir(&dir).map_err(ImageError::io("create", &dir))?;
        for certificate in certificates {
            put(&format!("ca/{}", certificate.file), &certificate.pem)?;
        }
        run = run.env("EMBERBOX_HOST_CA", &dir);
    }
    run.arg(&distribution.codename)
        .arg(&tree)
        .arg(apt.sources_file())
        .watch(|line| {
            if let Some(step) = line.strip_prefix("I: ")
                && SHOWN.iter().any(|verb| step.starts_with(verb))
            {
                progress.step(&format!("base template: {}", step.trim_end_matches('.')));
            }
        })?;
    Ok(tree)
}

fn pack(workshop: &Workshop, tree: &Path, progress: &dyn Progress) -> Result<PathBuf, ImageError> {
    progress.step("base template: packing");
    let image = workshop.temporary("base.erofs");
    Run::new("mkfs.erofs")?
        // Python takes its compiled files for stale when the time of the
        // source is not the one noted in them.
        .args(["--quiet", "--preserve-mtime", "-U", UUID])
        .arg(&image)
        .arg(tree)
        .output()?;
    Ok(image)
}

/// Publishes the image under its digest and returns that name.
fn publish(
    workshop: &Workshop,
    image: &Path,
    progress: &dyn Progress,
) -> Result<String, ImageError> {
    progress.step("base template: writing to disk");
    let digest = digest::of_file(image).map_err(ImageError::io("read", image))?;
    let name = format!("{digest}.erofs");
    workshop.publish(image, &name)?;
    Ok(name)
}

#[cfg(test)]
mod tests;
