//! The distribution's packages, asked for without touching the host's own apt
//! state: lists, caches and installed packages of the host play no part.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::command::Run;
use crate::error::ImageError;
use crate::sources::{self, Distribution, Source};

const CONFIG: &str = "apt.conf";
const FETCH_CONFIG: &str = "fetch.conf";
const SOURCES: &str = "distribution.sources";

/// apt with a state directory of its own.
pub(crate) struct Apt {
    dir: PathBuf,
    sources: Vec<Source>,
}

impl Apt {
    /// Fetches the package lists of the distribution into `dir`, which is the
    /// caller's to remove.
    pub(crate) fn update(dir: &Path, distribution: &Distribution) -> Result<Self, ImageError> {
        for name in ["lists/partial", "cache/archives/partial"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(ImageError::io("create", &path))?;
        }
        let mut apt = Self {
            dir: dir.to_owned(),
            sources: sources::of_host(distribution)?,
        };
        let fetch = dir.join(FETCH_CONFIG);
        let settings = fetch_settings()?;
        write_private(&fetch, &settings)?;
        write_private(&dir.join(CONFIG), &(settings + &own_settings(dir)))?;
        let file = apt.sources_file();
        fs::write(&file, apt.deb822()).map_err(ImageError::io("write", &file))?;
        let updated = apt.run("apt-get")?.arg("update").output();

        // A third party may use the release's name for its suite; it cannot
        // sign as the distribution. One unreachable third party must not stop
        // the build, so only the distribution's own lists have to be there.
        let origins = apt
            .run("apt-get")?
            .args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI)"])
            .arg("Identifier: Packages")
            .output()?;
        let own: Vec<_> = origins
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(origin, _)| origin.eq_ignore_ascii_case(&distribution.id))
            .map(|(_, uri)| uri.trim_end_matches('/').to_owned())
            .collect();
        for source in &mut apt.sources {
            source
                .uris
                .retain(|uri| own.iter().any(|own| own == uri.trim_end_matches('/')));
        }
        apt.sources.retain(|source| !source.uris.is_empty());
        if !apt
            .sources
            .iter()
            .any(|source| source.suites.contains(&distribution.codename))
        {
            updated?;
            return Err(ImageError::Distribution {
                detail: format!("no source is signed by {}", distribution.id),
            });
        }
        fs::write(&file, apt.deb822()).map_err(ImageError::io("write", &file))?;
        Ok(apt)
    }

    /// A deb822 file with the distribution's sources only.
    pub(crate) fn sources_file(&self) -> PathBuf {
        self.dir.join(SOURCES)
    }

    /// How the host fetches packages, as a file of apt configuration that only
    /// root can read.
    pub(crate) fn fetch_config(&self) -> PathBuf {
        self.dir.join(FETCH_CONFIG)
    }

    fn deb822(&self) -> String {
        sources::to_deb822(&self.sources)
    }

    /// The packages of which `package` depends, candidates only.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>, ImageError> {
        let text = self
            .run("apt-cache")?
            .args(["depends", "--important", package])
            .output()?;
        Ok(text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("Depends: "))
            .map(|name| name.trim().to_owned())
            .collect())
    }

    /// The version that would be downloaded, if there is one.
    pub(crate) fn version(&self, package: &str) -> Result<Option<String>, ImageError> {
        let text = self.run("apt-cache")?.args(["policy", package]).output()?;
        Ok(text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Candidate: "))
            .find(|version| *version != "(none)")
            .map(str::to_owned))
    }

    /// Downloads `package` and unpacks its files into `tree`. No script of the
    /// package runs.
    pub(crate) fn unpack(&self, package: &str, tree: &Path) -> Result<(), ImageError> {
        let debs = self.dir.join("debs").join(package);
        fs::create_dir_all(&debs).map_err(ImageError::io("create", &debs))?;
        self.run("apt-get")?
            .args(["download", package])
            .current_dir(&debs)
            .output()?;
        for entry in fs::read_dir(&debs).map_err(ImageError::io("list", &debs))? {
            let deb = entry.map_err(ImageError::io("list", &debs))?.path();
            Run::new("dpkg-deb")?
                .arg("-x")
                .arg(&deb)
                .arg(tree)
                .output()?;
        }
        Ok(())
    }

    fn run(&self, program: &str) -> Result<Run, ImageError> {
        Ok(Run::new(program)?.env("APT_CONFIG", self.dir.join(CONFIG)))
    }
}

/// Makes apt read nothing else of the host's: its pins, hooks and further
/// indexes are about the host. It downloads as root, for its own user cannot
/// write below a private directory.
fn own_settings(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "Dir::Etc::main \"/dev/null\";\n\
         Dir::Etc::parts \"/dev/null\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\n\
         Dir::Etc::sourcelist \"{dir}/{SOURCES}\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::State::status \"/dev/null\";\n\
         Dir::State::lists \"{dir}/lists\";\n\
         Dir::Cache \"{dir}/cache\";\n\
         Acquire::Languages \"none\";\n\
         APT::Sandbox::User \"root\";\n"
    )
}

/// A proxy's address may hold a password: the file is for root alone.
fn write_private(path: &Path, text: &str) -> Result<(), ImageError> {
    let written = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(ImageError::io("write", path))
}

/// The host's settings of how packages are fetched, as apt configuration:
/// proxies, certificates and date checks, and nothing else.
fn fetch_settings() -> Result<String, ImageError> {
    const SETTINGS: [&str; 5] = [
        "Acquire::http::",
        "Acquire::https::",
        "Acquire::Check-Date",
        "Acquire::Check-Valid-Until",
        "Acquire::Retries",
    ];
    let dump = Run::new("apt-config")?.arg("dump").output()?;
    let kept = dump
        .lines()
        .filter(|line| SETTINGS.iter().any(|setting| line.starts_with(setting)));
    Ok(kept.flat_map(|line| [line, "\n"]).collect())
}
