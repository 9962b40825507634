//! What the tests stand on: servers, and calls to them.

pub(crate) mod api;
pub(crate) mod eyes;
pub(crate) mod raw;
pub(crate) mod sandbox;
pub(crate) mod server;
pub(crate) mod stream;
pub(crate) mod visitor;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use api::Api;
use emberbox_store::Store;
use secrecy::ExposeSecret;
use server::Server;

/// Longest anything that happens by itself may take on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// How often a condition without a notification is looked at.
const POLL: Duration = Duration::from_millis(10);

/// The binary under test and the server all tests share.
pub(crate) struct Rig {
    pub(crate) binary: PathBuf,
    shared: Mutex<Option<Server>>,
}

impl Rig {
    pub(crate) fn new(binary: PathBuf) -> Self {
        Self {
            binary,
            shared: Mutex::default(),
        }
    }

    /// The shared server's interface; the first caller starts it.
    pub(crate) fn api(&self) -> Api {
        let mut shared = self.shared();
        let server = shared.get_or_insert_with(|| Server::start(&self.binary));
        server.look();
        server.api()
    }

    /// Another tenant of the shared server: its id, and a client with its key.
    pub(crate) fn another_tenant(&self, name: &str) -> (String, Api) {
        let api = self.api();
        // Tenants have no route yet: an operator makes them in the database.
        let database = self.data_dir().join("emberbox.db");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let made = runtime.block_on(async {
            let store = Store::open(&database).await.unwrap();
            let made = store.create_tenant(name).await.unwrap();
            store.close().await;
            made
        });
        let secret = made.secret.unwrap();
        let api = api.with_key(secret.expose_secret());
        (made.tenant.as_str().to_owned(), api)
    }

    /// The shared server's data directory.
    fn data_dir(&self) -> PathBuf {
        let mut shared = self.shared();
        let server = shared.get_or_insert_with(|| Server::start(&self.binary));
        server.data_dir()
    }

    /// Stops the shared server; says what is left of it.
    pub(crate) fn finish(&self) -> Result<(), String> {
        match self.shared().take() {
            Some(server) => server.finish(),
            None => Ok(()),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Option<Server>> {
        // A test that failed has changed nothing half-way here.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until `look` finds something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(SOON, what, look)
}

/// Waits until `look` finds something, but no longer than `limit`.
#[track_caller]
pub(crate) fn eventually_within<T>(
    limit: Duration,
    what: &str,
    look: impl FnMut() -> Option<T>,
) -> T {
    let found = try_eventually(limit, look);
    found.unwrap_or_else(|| panic!("not within {limit:?}: {what}"))
}

/// What `look` finds within `limit`, if it does.
pub(crate) fn try_eventually<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let found = look();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        thread::sleep(POLL);
    }
}
