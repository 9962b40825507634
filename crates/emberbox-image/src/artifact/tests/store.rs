//! A real S3 protocol server on loopback, whose files the test can reach.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::artifact::{ArtifactSource, S3Access};

const BUCKET: &str = "images";
const PREFIX: &str = "emberbox";

/// The server; it ends with this.
pub(super) struct Store {
    dir: TempDir,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    refuse_puts_after: Arc<Mutex<Option<usize>>>,
    _server: JoinSet<()>,
}

impl Store {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single("me", "secret"));
        let service = builder.build();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let refuse_puts_after = Arc::new(Mutex::new(None));
        let mut server = JoinSet::new();
        let (log, limit) = (Arc::clone(&seen), Arc::clone(&refuse_puts_after));
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let serve = serve(service.clone(), Arc::clone(&log), Arc::clone(&limit));
                connections.spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let served = builder.serve_connection(TokioIo::new(socket), serve);
                    let _ = served.await;
                });
            }
        });
        Self {
            dir,
            address,
            seen,
            refuse_puts_after,
            _server: server,
        }
    }

    pub(super) fn source(&self) -> ArtifactSource {
        self.source_as("secret")
    }

    pub(super) fn source_as(&self, secret: &str) -> ArtifactSource {
        let access = S3Access {
            endpoint: Some(format!("http://{}", self.address)),
            region: Some("us-east-1".to_owned()),
            keys: Some(("me".to_owned(), secret.to_owned())),
        };
        ArtifactSource::s3(&format!("s3://{BUCKET}/{PREFIX}"), &access).unwrap()
    }

    /// The server's own file of an object.
    pub(super) fn file(&self, at: &str) -> PathBuf {
        self.dir.path().join(BUCKET).join(PREFIX).join(at)
    }

    /// The names of its chunks, sorted.
    pub(super) fn chunks(&self) -> Vec<String> {
        let mut chunks = Vec::new();
        for shard in fs::read_dir(self.file("chunks")).into_iter().flatten() {
            for chunk in fs::read_dir(shard.unwrap().path()).unwrap() {
                chunks.push(chunk.unwrap().file_name().into_string().unwrap());
            }
        }
        chunks.sort();
        chunks
    }

    /// Requests of this kind so far, for example `GET /…/chunks/`.
    pub(super) fn count(&self, method: &str, part: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        let matching = seen
            .iter()
            .filter(|line| line.starts_with(method) && line.contains(part));
        matching.count()
    }

    /// Takes so many more chunks and refuses those that follow.
    pub(super) fn refuse_chunks_after(&self, count: Option<usize>) {
        *self.refuse_puts_after.lock().unwrap() = count;
    }
}

type Answer = hyper::Response<s3s::Body>;

fn serve(
    service: S3Service,
    seen: Arc<Mutex<Vec<String>>>,
    refuse_after: Arc<Mutex<Option<usize>>>,
) -> impl Service<Request<Incoming>, Response = Answer, Error = s3s::HttpError, Future: Send + 'static>
+ Send
+ 'static {
    service_fn(move |request: Request<Incoming>| {
        let line = format!("{} {}", request.method(), request.uri().path());
        let is_chunk = line.starts_with("PUT") && line.contains("/chunks/");
        seen.lock().unwrap().push(line);
        let refused = is_chunk
            && match &mut *refuse_after.lock().unwrap() {
                None => false,
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
            };
        let answer = (!refused).then(|| Service::call(&service, request));
        async move {
            match answer {
                Some(answer) => answer.await,
                None => {
                    let mut answer = Answer::default();
                    *answer.status_mut() = hyper::StatusCode::FORBIDDEN;
                    Ok(answer)
                }
            }
        }
    })
}
