//! Previews over TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Site, echo};
use crate::rig::{PATIENCE, answer};

fn connector(authority: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(authority).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_is_served_over_tls() {
    let site = Site::new().await;
    site.listen(3000, echo().await);
    let (address, authority) = site.rig.serve_https().await;
    let connector = connector(&authority);
    let host = site.host(3000);
    let ask = async |path: &str| {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(host.clone()).unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/html\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _end = timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap();
        String::from_utf8(answer).unwrap()
    };
    let told = ask("/").await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert!(told.contains(r#"["x-forwarded-proto","https"]"#), "{told}");

    let path = format!("/sandboxes/{}/previews", site.sandbox.id);
    let private = json!({"port": 3000, "visibility": "private"});
    answer(site.rig.request("POST", &path).json(&private)).await;
    let path = format!("/sandboxes/{}/preview-token", site.sandbox.id);
    let (_, _, made) = answer(site.rig.request("POST", &path)).await;
    let token = made["data"]["token"].as_str().unwrap();
    let kept = ask(&format!("/?mt={token}")).await;
    assert!(kept.starts_with("HTTP/1.1 303"), "{kept}");
    let cookie = format!("set-cookie: __Host-emberbox-preview={token}; Path=/; Secure; HttpOnly");
    assert!(kept.contains(&cookie), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_is_not_let_in() {
    let site = Site::new().await;
    let (address, _) = site.rig.serve_https().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut told = Vec::new();
    let _end = timeout(PATIENCE, stream.read_to_end(&mut told))
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&told);
    assert!(!told.contains("HTTP/1.1"), "{told}");
}
