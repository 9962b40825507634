//! Against a real registry: Debian's, on loopback, filled by the test.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Instant;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciManifest};
use oci_client::{Client, Reference, RegistryOperation};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::*;
use crate::home::Home;

/// How long the registry may take to start on a loaded machine.
const START: Duration = Duration::from_secs(30);

struct Registry {
    child: Child,
    port: u16,
    dir: TempDir,
    client: Client,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// `None` where it is not installed and need not be.
    async fn start() -> Option<Self> {
        trust();
        if crate::command::find("docker-registry").is_none() {
            let required = std::env::var_os("EMBERBOX_REQUIRE_VMS").is_some();
            assert!(!required, "apt-get install docker-registry");
            eprintln!("skipped: docker-registry is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            dir.path().display()
        );
        let file = dir.path().join("config.yml");
        fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let client = Client::new(ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        });
        let registry = Self {
            child,
            port,
            dir,
            client,
        };
        let deadline = Instant::now() + START;
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_err()
        {
            assert!(Instant::now() < deadline, "the registry does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(registry)
    }

    fn access(&self) -> Registries {
        let mirror = format!("http://127.0.0.1:{}", self.port);
        Registries {
            mirrors: BTreeMap::from([("docker.io".to_owned(), mirror)]),
            credentials: BTreeMap::new(),
        }
    }

    /// Pushes an image of these layers as `library/NAME:latest`.
    async fn push(&self, name: &str, layers: &[Vec<u8>], description: &serde_json::Value) {
        let host = format!("127.0.0.1:{}", self.port);
        let image = Reference::with_tag(host, format!("library/{name}"), "latest".to_owned());
        let auth = RegistryAuth::Anonymous;
        let _ = self
            .client
            .auth(&image, &auth, RegistryOperation::Push)
            .await;
        let mut described = Vec::new();
        for bytes in layers {
            described.push(
                self.blob(&image, bytes, "application/vnd.oci.image.layer.v1.tar+gzip")
                    .await,
            );
        }
        let config = serde_json::to_vec(description).unwrap();
        let config = self
            .blob(&image, &config, "application/vnd.oci.image.config.v1+json")
            .await;
        let manifest = OciManifest::Image(OciImageManifest {
            media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
            config,
            layers: described,
            ..OciImageManifest::default()
        });
        self.client.push_manifest(&image, &manifest).await.unwrap();
    }

    async fn blob(&self, image: &Reference, bytes: &[u8], media_type: &str) -> OciDescriptor {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
        let pushed = self.client.push_blob(image, bytes.to_vec(), &digest).await;
        pushed.unwrap();
        OciDescriptor {
            media_type: media_type.to_owned(),
            digest,
            size: i64::try_from(bytes.len()).unwrap(),
            ..OciDescriptor::default()
        }
    }

    /// The registry's own file of a blob.
    fn file_of(&self, bytes: &[u8]) -> PathBuf {
        let digest = hex::encode(Sha256::digest(bytes));
        let blobs = "docker/registry/v2/blobs/sha256";
        let dir = self.dir.path().join(blobs).join(&digest[..2]);
        dir.join(digest).join("data")
    }
}

/// A port nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A layer of these files; what ends with a slash is a directory, what has an
/// arrow a symbolic link.
fn layer(files: &[&str]) -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    for file in files {
        let mut header = Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        if let Some((name, target)) = file.split_once(" -> ") {
            header.set_entry_type(EntryType::Symlink);
            archive.append_link(&mut header, name, target).unwrap();
        } else if file.ends_with('/') {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, file, io::empty()).unwrap();
        } else {
            header.set_size(file.len() as u64);
            archive
                .append_data(&mut header, file, file.as_bytes())
                .unwrap();
        }
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn debian() -> Vec<u8> {
    layer(&[
        "bin -> usr/bin",
        "lib64 -> usr/lib64",
        "usr/bin/dash",
        "usr/bin/sh -> dash",
        "usr/lib64/ld-linux-x86-64.so.2",
        "usr/share/doc/gone",
    ])
}

fn description(env: &[&str]) -> serde_json::Value {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [] },
        "config": { "Env": env },
    })
}

fn home() -> (TempDir, Home, Arc<BuildDir>) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path()).unwrap();
    let build = Arc::new(BuildDir::create(&home, "b1").unwrap());
    (dir, home, build)
}

#[tokio::test]
async fn an_image_becomes_one_layer() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    let above = layer(&["usr/share/doc/.wh.gone", "usr/share/doc/new"]);
    let layers = [debian(), above.clone()];
    let env = description(&["PATH=/opt/bin:/bin", "LANG=C", "bad"]);
    registry.push("mine", &layers, &env).await;
    let (_dir, home, build) = home();
    let stack = pull(&home, &build, "mine", &registry.access())
        .await
        .unwrap();
    assert_eq!(stack.layers.len(), 1);
    assert_eq!(stack.env.len(), 2);
    assert_eq!(stack.env["PATH"], "/opt/bin:/bin");
    let image = &stack.paths(&home)[0];
    let shown = |path: &str| {
        let path = format!("--path={path}");
        let shown = Command::new("dump.erofs").arg(path).arg(image).output();
        String::from_utf8_lossy(&shown.unwrap().stdout).contains("NID: ")
    };
    assert!(shown("/usr/share/doc/new") && !shown("/usr/share/doc/gone"));
    // Once more takes nothing but a look at the manifest.
    fs::remove_dir_all(home.blobs()).unwrap();
    fs::create_dir(home.blobs()).unwrap();
    let (from, access) = ("docker.io/library/mine:latest", registry.access());
    let again = pull(&home, &build, from, &access).await;
    assert_eq!(again.unwrap(), stack);
    assert_eq!(fs::read_dir(home.blobs()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_broken_transfer_goes_on_and_two_fetch_once() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    let layer = debian();
    registry
        .push("mine", from_ref(&layer), &description(&[]))
        .await;
    let (_dir, home, build) = home();
    let digest = hex::encode(Sha256::digest(&layer));
    let part = home.blobs().join(format!("{digest}.part"));
    let middle = layer.len() / 2;
    fs::write(&part, &layer[..middle]).unwrap();
    let access = registry.access();
    let other = Arc::new(BuildDir::create(&home, "b2").unwrap());
    let (one, two) = tokio::join!(
        pull(&home, &build, "mine", &access),
        pull(&home, &other, "mine", &access),
    );
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(fs::read(home.blobs().join(&digest)).unwrap(), layer);
    assert!(!part.exists());
    // A beginning that is of something else is found out, and forgotten.
    fs::remove_file(home.blobs().join(&digest)).unwrap();
    fs::write(&part, vec![0; middle]).unwrap();
    registry
        .push("other", from_ref(&layer), &description(&["A=1"]))
        .await;
    let error = pull(&home, &build, "other", &access).await.unwrap_err();
    assert!(matches!(error, PullError::Mismatch(_)), "{error}");
    pull(&home, &build, "other", &access).await.unwrap();
}

#[tokio::test]
async fn what_is_no_base_image_is_refused() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    let alpine = layer(&[
        "bin/busybox",
        "bin/sh -> busybox",
        "lib/ld-musl-x86_64.so.1",
    ]);
    registry.push("musl", &[alpine], &description(&[])).await;
    let through = layer(&["out -> /etc", "out/passwd"]);
    registry
        .push("hostile", &[debian(), through], &description(&[]))
        .await;
    let damaged = debian();
    registry
        .push("damaged", from_ref(&damaged), &description(&["A=2"]))
        .await;
    let arm = json!({ "architecture": "arm64", "os": "linux" });
    registry.push("arm", &[layer(&["etc/arm"])], &arm).await;
    let mut noise = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    noise.write_all(&[7; 2000]).unwrap();
    registry
        .push("noise", &[noise.finish().unwrap()], &description(&[]))
        .await;

    let (_dir, home, build) = home();
    let access = registry.access();
    let why = async |from: &str| {
        let error = pull(&home, &build, from, &access).await.unwrap_err();
        (error.to_string(), error)
    };
    let (text, error) = why("musl").await;
    assert!(
        matches!(error, PullError::Image(ImageError::Unsupported(_))),
        "{text}"
    );
    assert!(text.contains("glibc"), "{text}");
    let (text, error) = why("hostile").await;
    assert!(
        matches!(error, PullError::Image(ImageError::Archive(_))),
        "{text}"
    );
    assert!(text.contains("leads through"), "{text}");
    let (text, error) = why("noise").await;
    assert!(
        matches!(error, PullError::Image(ImageError::Archive(_))),
        "{text}"
    );
    for missing in ["none", "musl:other"] {
        let (text, error) = why(missing).await;
        assert!(matches!(error, PullError::NotFound(..)), "{text}");
    }
    let (text, error) = why("arm").await;
    assert!(matches!(error, PullError::NotFound(..)), "{text}");
    assert!(text.contains("another kind of machine"), "{text}");

    fs::remove_dir_all(home.blobs()).unwrap();
    fs::create_dir(home.blobs()).unwrap();
    let mut bytes = damaged.clone();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(registry.file_of(&damaged), &bytes).unwrap();
    let (text, error) = why("damaged").await;
    assert!(matches!(error, PullError::Mismatch(_)), "{text}");
    fs::write(registry.file_of(&damaged), &bytes[..last / 2]).unwrap();
    let (text, error) = why("damaged").await;
    assert!(
        matches!(
            error,
            PullError::Unavailable { .. } | PullError::Mismatch(_)
        ),
        "{text}"
    );
    // Nothing of all this became a layer.
    assert_eq!(fs::read_dir(home.rootfs()).unwrap().count(), 0);
}

#[tokio::test]
async fn no_private_address_is_asked_unless_the_operator_names_it() {
    trust();
    let (_dir, home, build) = home();
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = nobody.local_addr().unwrap().port();
    let mut access = Registries::default();
    let from = format!("127.0.0.1:{port}/library/x");
    let error = pull(&home, &build, &from, &access).await.unwrap_err();
    assert!(error.to_string().contains("public address"), "{error}");
    nobody.set_nonblocking(true).unwrap();
    assert!(nobody.accept().is_err(), "it was spoken to");
    // Named, it is asked, and says nothing.
    drop(nobody);
    let url = format!("http://127.0.0.1:{port}");
    access.mirrors.insert(format!("127.0.0.1:{port}"), url);
    let error = pull(&home, &build, &from, &access).await.unwrap_err();
    assert!(error.to_string().contains("connection failed"), "{error}");
}
