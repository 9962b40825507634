use std::io::Write;
use std::time::Duration;

use emberbox_control::{OnEmpty, Scheme, TlsSource};
use emberbox_host::{PoolConfig, SourceConfig};
use secrecy::ExposeSecret;

use super::*;

fn load(text: &str) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Config::load(Some(file.path()))
}

/// The error with everything that caused it, as the user sees it.
fn complaint(text: &str) -> String {
    format!("{:#}", anyhow::Error::from(load(text).unwrap_err()))
}

#[test]
fn nothing_set_is_the_default() {
    assert_eq!(load("").unwrap(), Config::default());
    assert_eq!(Config::load(None).unwrap(), Config::default());
    assert_eq!(
        Config::default().server.listen.to_string(),
        "127.0.0.1:8080"
    );
    assert_eq!(Config::default().server.grace_ms(), 5000);
    assert_eq!(Config::default().pool.config(), PoolConfig::default());
}

#[test]
fn everything_can_be_set() {
    let config = load(
        r#"
        [server]
        listen = "0.0.0.0:80"
        listen_https = "0.0.0.0:443"
        grace_sec = 2
        [tls]
        cert = "/etc/cert.pem"
        key = "/etc/key.pem"
        [engine]
        kind = "qemu"
        accel = "tcg"
        jailer = "off"
        seccomp_filter = "/dev/null"
        cpu_template = "T2CL"
        probe_timeout_sec = 120
        [guest]
        kernel = "/dev/null"
        kernel_modules = "/tmp"
        trust_host_ca = true
        [network]
        allowed_private = ["10.1.0.0/16"]
        pool_size = 2
        [pool]
        keep = 1
        max_prepared = 5
        max_memory_mib = 1024
        idle_sec = 60
        vmms = 3
        [preview]
        domain = "apps.example.com"
        scheme = "https"
        public_port = 443
        head_timeout_sec = 30
        max_connections = 20
        tunnel_idle_sec = 60
        wake = true
        [limits]
        max_sandboxes = 3
        [billing]
        vcpu_hour_micro = 50_000
        enforce = true
        on_empty = "keep"
        [artifacts]
        source = "s3://images/emberbox"
        endpoint = "http://127.0.0.1:9000"
        region = "eu-central-1"
        access_key_id = "me"
        secret_access_key_file = "/dev/null"
        max_disk_gib = 50
        "#,
    )
    .unwrap();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:80");
    assert_eq!(config.server.grace_ms(), 2000);
    let files = TlsSource::Files {
        cert: "/etc/cert.pem".into(),
        key: "/etc/key.pem".into(),
    };
    let https = ("0.0.0.0:443".parse().unwrap(), files);
    assert_eq!(config.https(Path::new("/data")), Some(https));
    assert_eq!(config.engine.kind, EngineKind::Qemu);
    assert_eq!(config.engine.accel, AcceleratorChoice::Tcg);
    assert_eq!(config.engine.jailer, JailerChoice::Off);
    assert_eq!(config.engine.seccomp_filter, Some("/dev/null".into()));
    assert_eq!(config.engine.cpu_template, Some(CpuTemplate::T2Cl));
    let deadline = ProbeDeadline(Duration::from_secs(120));
    assert_eq!(config.engine.choice().probe_deadline, deadline);
    let kernel = KernelChoice::Own {
        image: "/dev/null".into(),
        modules: Some("/tmp".into()),
    };
    assert_eq!(config.guest.kernel(), kernel);
    assert!(config.guest.trust_host_ca);
    assert_eq!(
        config.network.allowed_private,
        ["10.1.0.0/16".parse().unwrap()]
    );
    assert_eq!(config.network.pool_size, 2);
    let pool = PoolConfig {
        keep: 1,
        max_prepared: 5,
        max_memory_mib: Some(1024),
        idle: Duration::from_secs(60),
        vmms: 3,
    };
    assert_eq!(config.pool.config(), pool);
    let preview = PreviewSettings {
        domain: "apps.example.com".to_owned(),
        scheme: Scheme::Https,
        public_port: Some(443),
        head_timeout_sec: 30,
        max_connections: 20,
        tunnel_idle_sec: 60,
        wake: true,
    };
    assert_eq!(config.preview, preview);
    assert_eq!(config.limits.max_sandboxes, 3);
    assert_eq!(config.billing.vcpu_hour_micro, 50_000);
    assert_eq!(config.billing.on_empty, OnEmpty::Keep);
    assert_eq!(config.limits.max_vcpus, Limits::default().max_vcpus);
    let artifacts = config.artifacts.config().unwrap();
    assert_eq!(artifacts.max_bytes, Some(50 << 30));
    let Some(SourceConfig::S3 {
        url,
        endpoint,
        region,
        keys: Some((id, secret)),
    }) = artifacts.source
    else {
        panic!("{:?}", artifacts.source);
    };
    assert_eq!(url, "s3://images/emberbox");
    assert_eq!(endpoint.as_deref(), Some("http://127.0.0.1:9000"));
    assert_eq!(region.as_deref(), Some("eu-central-1"));
    assert_eq!((id.as_str(), secret.expose_secret()), ("me", ""));
}

#[test]
fn images_stay_where_they_are_unless_a_source_is_named() {
    let nothing = Config::default().artifacts.config().unwrap();
    assert!(nothing.source.is_none());
    let directory = load("[artifacts]\nsource = \"/srv/images\"").unwrap();
    let Some(SourceConfig::Directory(path)) = directory.artifacts.config().unwrap().source else {
        panic!("no directory");
    };
    assert_eq!(path, Path::new("/srv/images"));
}

#[test]
fn every_mistake_names_its_key() {
    let cases = [
        ("[server]\nlisten = \"here\"", "listen"),
        ("[server]\nlisten = 5", "listen"),
        ("[server]\ngrace_sec = -1", "grace_sec"),
        ("[server]\ngrace_sec = 26", "server.grace_sec"),
        ("[server]\nport = 5", "port"),
        (
            "[server]\nlisten_https = \"[::]:443\"",
            "server.listen_https",
        ),
        ("[tls]\ndevelopment_ca = true", "tls"),
        ("[tls]\ncert = \"a\"", "tls.cert"),
        ("[tls]\nkey = \"a\"", "tls.key"),
        (
            "[tls]\ncert = \"a\"\nkey = \"b\"\ndevelopment_ca = true",
            "tls.development_ca",
        ),
        ("[tls]\nca = true", "ca"),
        ("[sever]\nlisten = 5", "sever"),
        ("[engine]\nkind = \"xen\"", "kind"),
        ("[engine]\naccel = \"fast\"", "accel"),
        (
            "[engine]\nkind = \"firecracker\"\naccel = \"tcg\"",
            "engine.accel",
        ),
        ("[engine]\njailer = true", "jailer"),
        ("[engine]\ncpu_template = \"T9\"", "cpu_template"),
        (
            "[engine]\nprobe_timeout_sec = 0",
            "engine.probe_timeout_sec",
        ),
        (
            "[engine]\nprobe_timeout_sec = 601",
            "engine.probe_timeout_sec",
        ),
        (
            "[engine]\nseccomp_filter = \"/no/such/file\"",
            "engine.seccomp_filter",
        ),
        ("[guest]\nkernel = \"/no/such/file\"", "guest.kernel"),
        ("[guest]\nkernel_modules = \"/tmp\"", "guest.kernel_modules"),
        ("[guest]\ntrust_host_ca = \"yes\"", "trust_host_ca"),
        (
            "[network]\nallowed_private = [\"10.0.0.0/33\"]",
            "allowed_private",
        ),
        ("[network]\npool_size = 257", "network.pool_size"),
        ("[pool]\nkeep = 1025", "pool.keep"),
        ("[pool]\nmax_prepared = 1025", "pool.max_prepared"),
        ("[pool]\nvmms = 1025", "pool.vmms"),
        ("[preview]\ndomain = \"Example.com\"", "preview.domain"),
        ("[preview]\ndomain = \"localhost:80\"", "preview.domain"),
        ("[preview]\ndomain = \"\"", "preview.domain"),
        ("[preview]\nscheme = \"ftp\"", "scheme"),
        ("[preview]\npublic_port = 0", "preview.public_port"),
        ("[preview]\npublic_port = 65536", "public_port"),
        (
            "[preview]\nhead_timeout_sec = 0",
            "preview.head_timeout_sec",
        ),
        (
            "[preview]\nhead_timeout_sec = 3601",
            "preview.head_timeout_sec",
        ),
        ("[preview]\ntunnel_idle_sec = 0", "preview.tunnel_idle_sec"),
        (
            "[preview]\ntunnel_idle_sec = 604801",
            "preview.tunnel_idle_sec",
        ),
        ("[preview]\nmax_connections = 0", "preview.max_connections"),
        (
            "[preview]\nmax_connections = 2049",
            "preview.max_connections",
        ),
        ("[limits]\nmax_vcpus = 0", "limits.max_vcpus"),
        ("[limits]\nmax_cpus = 1", "max_cpus"),
        (
            "[limits]\ndefault_timeout_sec = 4000000",
            "limits.default_timeout_sec",
        ),
        (
            "[limits]\nmax_exec_timeout_sec = 10",
            "limits.default_exec_timeout_sec",
        ),
        ("[billing]\nvcpu_hour_micro = -1", "vcpu_hour_micro"),
        ("[billing]\nvcpu_hour_micro = 0.5", "vcpu_hour_micro"),
        ("[billing]\non_empty = \"sell\"", "on_empty"),
        ("[billing]\nprice = 1", "price"),
        ("[builds]\nconcurrency = 0", "builds.concurrency"),
        ("[builds]\nconcurrency = 17", "builds.concurrency"),
        ("[builds]\nmax_open = 0", "builds.max_open"),
        (
            "[builds.registries.\"ghcr.io\"]\nusername = \"me\"",
            "builds.registries",
        ),
        (
            "[builds.registries.\"docker.io\"]\nmirror = \"mirror.example.com\"",
            "builds.registries",
        ),
        (
            "[billing]\nsettle_interval_sec = 0",
            "billing.settle_interval_sec",
        ),
        (
            "[billing]\nsettle_interval_sec = 3601",
            "billing.settle_interval_sec",
        ),
        (
            "[billing]\nminimum_balance_micro = -1",
            "billing.minimum_balance_micro",
        ),
        ("[artifacts]\nsource = \"images\"", "artifacts.source"),
        ("[artifacts]\nsource = \"s3:///images\"", "artifacts.source"),
        (
            "[artifacts]\nsource = \"/srv\"\nregion = \"here\"",
            "artifacts.region",
        ),
        (
            "[artifacts]\nsource = \"s3://images\"\nendpoint = \"minio\"",
            "artifacts.endpoint",
        ),
        (
            "[artifacts]\nsource = \"s3://images\"\naccess_key_id = \"me\"",
            "artifacts.access_key_id",
        ),
        (
            "[artifacts]\nsource = \"s3://images\"\naccess_key_id = \"me\"\n\
             secret_access_key_file = \"/no/such/file\"",
            "artifacts.secret_access_key_file",
        ),
        ("[artifacts]\nmax_disk_gib = 0", "artifacts.max_disk_gib"),
        ("[artifacts]\nmax_disk_gib = 5", "artifacts.max_disk_gib"),
        ("[artifacts]\nbucket = \"images\"", "bucket"),
        ("[server", "line 1"),
    ];
    for (text, key) in cases {
        let complaint = complaint(text);
        assert!(complaint.contains(key), "{text:?} gives {complaint:?}");
    }
}

#[test]
fn development_certificates_live_with_the_data() {
    let text = "[server]\nlisten_https = \"[::1]:8443\"\n[tls]\ndevelopment_ca = true";
    let authority = TlsSource::DevelopmentCa {
        dir: "/data/tls".into(),
        domain: "localhost".to_owned(),
    };
    let https = ("[::1]:8443".parse().unwrap(), authority);
    assert_eq!(load(text).unwrap().https(Path::new("/data")), Some(https));
    assert_eq!(Config::default().https(Path::new("/data")), None);
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some(Path::new("/no/such/config.toml"))).unwrap_err();
    assert!(error.to_string().contains("/no/such/config.toml"));
}
