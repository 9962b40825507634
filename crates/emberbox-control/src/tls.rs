//! TLS for who connects: an operator's certificate, or one for development.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// Life of the development authority, in years: longer than any development
/// machine, so that it is trusted by hand only once.
const CA_YEARS: i32 = 10;

/// Life of a development certificate, in days: browsers take at most 398. It
/// is made anew at every start.
const LEAF_DAYS: i32 = 397;

const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSource {
    /// PEM files of the operator's.
    Files {
        /// The certificate, then those that vouch for it.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// An authority of this server's own, made at the first start; whoever is
    /// to trust it takes `ca.crt` from there.
    DevelopmentCa {
        /// Where it is kept.
        dir: PathBuf,
        /// The domain of previews.
        domain: String,
    },
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Certificate and key do not belong together, or are of no use.
    #[error("the certificate cannot be used")]
    Certificate(#[from] rustls::Error),
    /// No development certificate could be made.
    #[error("no development certificate could be made")]
    Make(#[from] rcgen::Error),
}

/// Ends TLS. Cheap to clone.
#[derive(Clone)]
pub struct Tls(pub(crate) TlsAcceptor);

impl Tls {
    /// Reads or makes the certificate. Blocks for some milliseconds.
    pub fn open(source: &TlsSource) -> Result<Self, TlsError> {
        let (chain, key) = match source {
            TlsSource::Files { cert, key } => (read_chain(cert)?, read_key(key)?),
            TlsSource::DevelopmentCa { dir, domain } => development(dir, domain)?,
        };
        // Named here: two providers may be linked, and then none is default.
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| TlsError::File {
        path: path.to_owned(),
        source,
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| failed(e.into()))?;
    let chain: Result<Vec<_>, _> = certificates.collect();
    let chain = chain.map_err(|error| failed(error.into()))?;
    if chain.is_empty() {
        return Err(failed("it holds no certificate".into()));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::File {
        path: path.to_owned(),
        source: error.into(),
    })
}

/// A new certificate of the development authority. Its key is never written.
fn development(dir: &Path, domain: &str) -> Result<Identity, TlsError> {
    let authority = authority(dir)?;
    let mut params = CertificateParams::new([
        format!("*.sandbox.{domain}"),
        domain.to_owned(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ])?;
    name(&mut params, "Emberbox development certificate");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    live(&mut params, LEAF_DAYS.days());
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((vec![certificate.der().clone()], key.into()))
}

/// The development authority, made if there is none. The key is written last:
/// with a key there is a certificate.
fn authority(dir: &Path) -> Result<Issuer<'static, KeyPair>, TlsError> {
    let key_path = dir.join(CA_KEY);
    let failed = |source: io::Error| TlsError::File {
        path: key_path.clone(),
        source: source.into(),
    };
    let mut params = CertificateParams::default();
    name(&mut params, "Emberbox development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    live(&mut params, CA_YEARS.years());
    let key = match fs::read_to_string(&key_path) {
        Ok(pem) => KeyPair::from_pem(&pem)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate()?;
            let certificate = params.self_signed(&key)?;
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(failed)?;
            write(&dir.join(CA_CERT), &certificate.pem()).map_err(failed)?;
            write(&key_path, &key.serialize_pem()).map_err(failed)?;
            key
        }
        Err(error) => return Err(failed(error)),
    };
    // Name and key are all that a signature takes from it.
    Ok(Issuer::new(params, key))
}

fn name(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}

/// Valid from yesterday, for clocks that are behind.
fn live(params: &mut CertificateParams, span: jiff::Span) {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let [from, until] = [today.saturating_sub(1.day()), today.saturating_add(span)].map(|date| {
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        date_time_ymd(date.year().into(), month, day)
    });
    params.not_before = from;
    params.not_after = until;
}

/// Writes a file that only its owner may read, whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests;
