use std::os::unix::fs::PermissionsExt;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsConnector;

use super::*;

fn source(dir: &TempDir) -> TlsSource {
    TlsSource::DevelopmentCa {
        dir: dir.path().join("tls"),
        domain: "apps.example.com".to_owned(),
    }
}

/// A client that trusts the authority in `dir`.
fn client(dir: &TempDir) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let ca = dir.path().join("tls").join(CA_CERT);
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn shake_hands(server: &Tls, client: &TlsConnector, name: &str) -> io::Result<String> {
    let (ours, theirs) = duplex(1 << 16);
    let accept = async {
        let mut stream = server.0.accept(theirs).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await
    };
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connect = async {
        let mut stream = client.connect(name, ours).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    };
    let (_accepted, connected) = tokio::join!(accept, connect);
    connected
}

#[tokio::test]
async fn who_trusts_the_authority_trusts_every_start() {
    let dir = TempDir::new().unwrap();
    let first = Tls::open(&source(&dir)).unwrap();
    let client = client(&dir);
    let second = Tls::open(&source(&dir)).unwrap();
    for server in [&first, &second] {
        for name in [
            "3000-abc.sandbox.apps.example.com",
            "localhost",
            "127.0.0.1",
        ] {
            let told = shake_hands(server, &client, name).await;
            assert_eq!(told.unwrap(), "hello", "{name}");
        }
        let other = shake_hands(server, &client, "evil.example").await;
        assert!(other.is_err());
    }
}

#[test]
fn the_authoritys_key_is_its_owners_alone() {
    let dir = TempDir::new().unwrap();
    Tls::open(&source(&dir)).unwrap();
    let mode = |path: &str| {
        let metadata = fs::metadata(dir.path().join(path)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(
        (mode("tls"), mode("tls/ca.key"), mode("tls/ca.crt")),
        (0o700, 0o600, 0o600)
    );
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let dir = TempDir::new().unwrap();
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("cert"), authority.cert.pem()).unwrap();
    fs::write(path("key"), authority.signing_key.serialize_pem()).unwrap();
    fs::write(path("other"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    fs::write(path("garbage"), "garbage").unwrap();
    let open = |cert: &str, key: &str| {
        let source = TlsSource::Files {
            cert: path(cert),
            key: path(key),
        };
        Tls::open(&source).map(|_| ())
    };
    assert!(open("cert", "key").is_ok());
    for (cert, key, named) in [
        ("none", "key", "none"),
        ("cert", "none", "none"),
        ("garbage", "key", "garbage"),
        ("cert", "garbage", "garbage"),
        ("cert", "other", "certificate"),
    ] {
        let error = open(cert, key).unwrap_err().to_string();
        assert!(error.contains(named), "{cert} {key}: {error}");
    }
}
