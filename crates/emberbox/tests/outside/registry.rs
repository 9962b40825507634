//! An image of a private registry becomes a sandbox. The registry is Debian's,
//! on loopback; the image is made here of this machine's own Debian.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;

use crate::catalog;
use crate::rig::api::Api;
use crate::rig::sandbox::Sandbox;
use crate::rig::server::Server;
use crate::rig::{Rig, SOON, eventually, eventually_within};

/// Longest a build may take.
const BUILD: Duration = Duration::from_secs(300);

/// Who may pull, with the password's bcrypt hash (`htpasswd -nbBC 4`), the only
/// one the registry takes.
const ACCOUNT: &str = "puller";
const PASSWORD: &str = "a password of the tests";
const HASH: &str = "$2b$04$jo9wg7dhEXw4pmrfmqmcUOwgca2fSgE0NZlr2vomASzhQJCyXz86W";

/// The host name in `from`; nobody has it.
const HOST: &str = "registry.test:5000";

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A small Debian, and a layer above it that takes something away.
const TREE: &str = r#"
mkdir -p tree/usr/{bin,lib,lib64} tree/{dev,etc,proc,root,run,sys,tmp} tree/var/gone above/var above/srv
for directory in bin lib lib64; do ln -s usr/$directory tree/$directory; done
for program in bash sh cat ls mkdir rm env head id; do
    cp -L "$(command -v $program)" tree/usr/bin/
done
ldd tree/usr/bin/* | grep -o '/[^ ]*' | grep -v : | sort -u | while read -r library; do
    mkdir -p "tree$(dirname "$library")" && cp -L "$library" "tree$library"
done
cp -L /etc/os-release /etc/passwd /etc/group tree/etc/
touch tree/var/gone/file above/var/.wh.gone
echo 'of a registry' >above/srv/file
for layer in tree above; do
    tar --owner=0 --group=0 -C $layer -czf $layer.tar.gz $(ls -A $layer)
done
"#;

struct Registry {
    child: Child,
    url: String,
    dir: TempDir,
    agent: Agent,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let accounts = dir.path().join("htpasswd");
        fs::write(&accounts, format!("{ACCOUNT}:{HASH}\n")).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             auth: {{htpasswd: {{realm: tests, path: {}}}}}\n\
             http: {{addr: \"{address}\"}}\n",
            dir.path().display(),
            accounts.display(),
        );
        let file = dir.path().join("config.yml");
        fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("apt-get install docker-registry");
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(SOON))
            .proxy(None)
            .build();
        let registry = Self {
            child,
            url: format!("http://{address}"),
            dir,
            agent: agent.into(),
        };
        eventually("the registry listens", || TcpStream::connect(address).ok());
        registry
    }

    /// Makes the image and pushes it as `team/app:1`.
    fn push(&self) {
        let made = Command::new("bash")
            .args(["-euo", "pipefail", "-c", TREE])
            .current_dir(self.dir.path())
            .status();
        assert!(made.unwrap().success());
        let layers = ["tree.tar.gz", "above.tar.gz"].map(|name| {
            let bytes = fs::read(self.dir.path().join(name)).unwrap();
            self.blob(&bytes, LAYER)
        });
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [] },
            "config": { "Env": ["FROM_IMAGE=yes"] },
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(config.to_string().as_bytes(), CONFIG),
            "layers": layers,
        });
        let url = format!("{}/v2/team/app/manifests/1", self.url);
        let put = self.agent.put(url).header("content-type", MANIFEST);
        let put = put.header("authorization", authorization());
        assert_eq!(put.send(manifest.to_string()).unwrap().status(), 201);
    }

    fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = format!("sha256:{}", sha256(self.dir.path(), bytes));
        let url = format!("{}/v2/team/app/blobs/uploads/", self.url);
        let begun = self
            .agent
            .post(url)
            .header("authorization", authorization());
        let begun = begun.send_empty().unwrap();
        let place = begun.headers()["location"].to_str().unwrap();
        let put = self.agent.put(format!("{place}&digest={digest}"));
        let put = put.header("authorization", authorization());
        let put = put.header("content-type", "application/octet-stream");
        assert_eq!(put.send(bytes).unwrap().status(), 201);
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }
}

fn authorization() -> String {
    format!("Basic {}", STANDARD.encode(format!("{ACCOUNT}:{PASSWORD}")))
}

fn sha256(dir: &Path, bytes: &[u8]) -> String {
    let file: PathBuf = dir.join("blob");
    fs::write(&file, bytes).unwrap();
    let output = Command::new("sha256sum").arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

pub(crate) fn private(rig: &Rig) {
    let registry = Registry::start();
    registry.push();
    let password = registry.dir.path().join("password");
    let config = format!(
        "[pool]\nmax_prepared = 0\n\
         [builds.registries.\"{HOST}\"]\nmirror = \"{}\"\n\
         [builds.registries.\"{}\"]\nusername = \"{ACCOUNT}\"\npassword_file = \"{}\"\n",
        registry.url,
        registry.url.trim_start_matches("http://"),
        password.display()
    );
    fs::write(&password, "another\n").unwrap();
    let server = Server::start_with(&rig.binary, &config);
    let api = server.api();
    let spec = json!({
        "from": format!("{HOST}/team/app:1"),
        "memoryMib": 512,
        "diskMib": 256,
        "env": { "FROM_SPEC": "yes" },
    });
    let body = json!({ "name": "app", "build_spec": spec });
    api.post("/sandbox-templates", &body).ok(201);
    let failed = build(&api);
    assert_eq!(failed["error_code"], "BASE_IMAGE_UNAUTHORIZED", "{failed}");
    // It is read for each build.
    fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let ready = build(&api);
    assert_eq!(ready["state"], "ready", "{ready}");

    let sandbox = Sandbox::with(&api, &json!({ "template_id": "app" }));
    assert_eq!(sandbox.record["boot_path"], "snapshot");
    let said = sandbox.say("cat /srv/file; echo $FROM_IMAGE $FROM_SPEC; ls /var");
    assert_eq!(said, "of a registry\nyes yes");
    sandbox.destroy();
    assert_eq!(api.delete("/sandbox-templates/app").status, 204);
    catalog::image_goes(ready["image_id"].as_str().unwrap());
    server.finish().unwrap();
}

/// The template's next build, once it is over.
fn build(api: &Api) -> Value {
    let id = api
        .post("/sandbox-templates/app/builds", &json!({}))
        .ok(201)["data"]["id"]
        .clone();
    let path = format!("/sandbox-template-builds/{}?wait=20", id.as_str().unwrap());
    eventually_within(BUILD, "the build is over", || {
        let build = api.get(&path).ok(200)["data"].clone();
        (!build["finished_at"].is_null()).then_some(build)
    })
}
