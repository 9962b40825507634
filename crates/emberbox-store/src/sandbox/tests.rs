use emberbox_core::{Limits, SandboxId, SandboxState, Shape, VmId};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::json;
use tempfile::TempDir;

use super::{Boot, DestroyIntent, ExternalIds, InsertError, Inserted, NewSandbox, SandboxFilter};
use super::{SandboxRecord, Transition};
use crate::{Bounds, Caller, OnceRequest, PlaceError, PlaceRequest, RequestKey, Store};

const BOOT: Boot = Boot {
    path: "snapshot",
    ms: 12,
};
const MANY: u32 = 100;

/// The settings' limits, but for the number of sandboxes.
pub(crate) fn at_most(max_sandboxes: u32) -> Limits {
    Limits {
        max_sandboxes,
        ..Limits::default()
    }
}

pub(crate) struct Fixture {
    _dir: TempDir,
    pub(crate) store: Store,
    caller: Caller,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let secret = store.bootstrap().await.unwrap().secret.unwrap();
        let caller = store
            .authenticate(secret.expose_secret())
            .await
            .unwrap()
            .unwrap();
        Self {
            _dir: dir,
            store,
            caller,
        }
    }

    async fn try_insert(
        &self,
        new: &NewSandbox,
        key: Option<&str>,
        max: u32,
    ) -> Result<Inserted, InsertError> {
        let once = key.map(|key| self.once(key, [0; 32]));
        self.store
            .insert_sandbox(&self.caller, new, once.as_ref(), &at_most(max))
            .await
    }

    /// A request of this fixture's caller.
    pub(crate) fn once(&self, key: &str, body_sha256: [u8; 32]) -> OnceRequest {
        OnceRequest {
            key: RequestKey {
                tenant: self.caller.tenant.clone(),
                scope: "POST /api/v1/sandboxes".to_owned(),
                key: key.to_owned(),
            },
            body_sha256,
        }
    }

    /// A fixture with one sandbox.
    pub(crate) async fn with_sandbox() -> (Self, SandboxId) {
        let fixture = Self::new().await;
        let sandbox = fixture.sandbox().await;
        (fixture, sandbox)
    }

    /// Who makes its sandboxes.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Another sandbox, if it may be.
    pub(crate) async fn try_sandbox(&self) -> Result<Inserted, InsertError> {
        self.try_insert(&new(), None, MANY).await
    }

    /// Another sandbox.
    pub(crate) async fn sandbox(&self) -> SandboxId {
        self.insert(&new()).await.id
    }

    async fn insert(&self, new: &NewSandbox) -> SandboxRecord {
        match self.try_insert(new, None, MANY).await.unwrap() {
            Inserted::New(record) => record,
            Inserted::Existing(record) => panic!("{record:?} was there"),
        }
    }

    async fn ready(&self, record: &SandboxRecord) -> Transition {
        let ready = self.store.record_ready(&record.id, &record.vm, BOOT).await;
        ready.unwrap().unwrap()
    }

    async fn list(&self, filter: SandboxFilter) -> Vec<SandboxRecord> {
        self.store
            .list_sandboxes(&self.caller.tenant, &filter)
            .await
            .unwrap()
    }
}

pub(crate) fn new() -> NewSandbox {
    NewSandbox {
        place: PlaceRequest::default(),
        external: ExternalIds::default(),
        name: None,
        slug: None,
        tags: Vec::new(),
        metadata: serde_json::Map::new(),
        env: std::collections::BTreeMap::new(),
        template_id: "miosa-sandbox".to_owned(),
        image_id: "miosa-sandbox".to_owned(),
        build: None,
        size: None,
        shape: Shape::DEFAULT,
        timeout_sec: 300,
        idle_timeout_sec: None,
        always_on: false,
        persistent: false,
        auto_start: false,
        origin: None,
        vm: None,
        batch_item: None,
    }
}

#[tokio::test]
async fn everything_asked_for_reads_back() {
    let fixture = Fixture::new().await;
    let asked = NewSandbox {
        external: ExternalIds {
            workspace: Some("w".into()),
            user: Some("u".into()),
            project: Some("p".into()),
        },
        name: Some("box".into()),
        slug: Some("my-box".into()),
        tags: vec!["a".into(), "b".into()],
        metadata: json!({"deep": {"list": [1, null, "x"]}})
            .as_object()
            .unwrap()
            .clone(),
        env: [("K".to_owned(), "v".to_owned())].into(),
        size: Some("xs".into()),
        idle_timeout_sec: Some(60),
        always_on: true,
        persistent: true,
        auto_start: true,
        ..new()
    };
    let record = fixture.insert(&asked).await;
    let read = fixture
        .store
        .sandbox(&fixture.caller.tenant, &record.id)
        .await
        .unwrap();
    assert_eq!(read, Some(record.clone()));
    assert_eq!((record.metadata, record.env), (asked.metadata, asked.env));
    assert_eq!(
        (record.slug.as_str(), record.state),
        ("my-box", SandboxState::Provisioning)
    );
}

#[tokio::test]
async fn a_life_from_create_to_destroy() {
    let fixture = Fixture::new().await;
    let record = fixture.insert(&new()).await;
    let ready = fixture.ready(&record).await;
    assert_eq!(
        (ready.previous, ready.record.state),
        (SandboxState::Provisioning, SandboxState::Running)
    );
    assert!(ready.changed() && ready.record.is_ready());
    assert_eq!(
        (ready.record.boot_path.as_deref(), ready.record.boot_ms),
        (Some("snapshot"), Some(12))
    );
    assert!(
        !fixture.ready(&record).await.changed(),
        "an echo changes nothing"
    );

    let tenant = &fixture.caller.tenant;
    let intent = fixture
        .store
        .request_destroy(tenant, &record.id)
        .await
        .unwrap()
        .unwrap();
    let DestroyIntent::Recorded(wanted) = intent else {
        panic!("{intent:?}")
    };
    assert!(
        !wanted.is_ready(),
        "no work is taken once the end is decided"
    );
    assert_eq!(fixture.store.unfinished_destroys().await.unwrap().len(), 1);

    let gone = fixture
        .store
        .record_destroyed(&record.id)
        .await
        .unwrap()
        .unwrap()
        .record;
    assert_eq!(
        (gone.state, gone.total_runtime_sec()),
        (SandboxState::Destroyed, Some(1))
    );
    assert!(gone.destroyed_at.is_some());
    assert!(
        fixture
            .store
            .unfinished_destroys()
            .await
            .unwrap()
            .is_empty()
    );
    let again = fixture
        .store
        .request_destroy(tenant, &record.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again, DestroyIntent::Gone(gone.clone()));
    assert!(
        !fixture.ready(&record).await.changed(),
        "nothing leaves destroyed"
    );
    let failed = fixture
        .store
        .record_failed(&record.vm, "late")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(failed.record, gone);
}

#[tokio::test]
async fn a_failure_is_terminal_and_says_why() {
    let fixture = Fixture::new().await;
    let record = fixture.insert(&new()).await;
    let failed = fixture
        .store
        .record_failed(&record.vm, "VM died")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(failed.record.state, SandboxState::Error);
    assert_eq!(failed.record.error_message.as_deref(), Some("VM died"));
    assert_eq!(
        fixture.ready(&record).await.record.state,
        SandboxState::Error
    );
    assert!(
        fixture
            .store
            .record_failed(&VmId::generate(), "x")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_new_life_makes_the_old_one_a_stranger() {
    let fixture = Fixture::new().await;
    let record = fixture.insert(&new()).await;
    let reborn = fixture
        .store
        .begin_new_life(&record.id, &record.vm)
        .await
        .unwrap()
        .unwrap();
    assert_ne!(reborn.vm, record.vm);
    let late = fixture
        .store
        .record_ready(&record.id, &record.vm, BOOT)
        .await
        .unwrap();
    assert_eq!(late, None);
    assert!(
        fixture
            .store
            .record_failed(&record.vm, "x")
            .await
            .unwrap()
            .is_none()
    );
    assert!(fixture.ready(&reborn).await.changed());
    let running = fixture
        .store
        .begin_new_life(&record.id, &reborn.vm)
        .await
        .unwrap();
    assert_eq!(running, None, "only what is provisioning");
}

#[tokio::test]
async fn the_limit_counts_what_is_live() {
    let fixture = Fixture::new().await;
    let first = fixture.insert(&new()).await;
    let second = fixture.insert(&new()).await;
    let refused = fixture.try_insert(&new(), None, 2).await;
    assert!(matches!(
        refused,
        Err(InsertError::LimitExceeded { live: 2, limit: 2 })
    ));
    fixture.store.record_failed(&first.vm, "x").await.unwrap();
    assert!(fixture.try_insert(&new(), None, 2).await.is_ok());
    fixture.store.record_destroyed(&second.id).await.unwrap();
    assert!(fixture.try_insert(&new(), None, 2).await.is_ok());
    assert!(fixture.try_insert(&new(), None, 2).await.is_err());
}

#[tokio::test]
async fn one_key_one_sandbox_even_at_once() {
    let fixture = Fixture::new().await;
    let sandbox = new();
    let tries = (0..8).map(|_| fixture.try_insert(&sandbox, Some("k"), 1));
    let mut ids = std::collections::HashSet::new();
    let mut fresh = 0;
    for outcome in join_all(tries).await {
        let record = match outcome.unwrap() {
            Inserted::New(record) => {
                fresh += 1;
                record
            }
            Inserted::Existing(record) => record,
        };
        ids.insert(record.id);
    }
    assert_eq!((fresh, ids.len()), (1, 1));
    let other = fixture
        .try_insert(&sandbox, Some("other"), 2)
        .await
        .unwrap();
    assert!(matches!(other, Inserted::New(_)));
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let fixture = Fixture::new().await;
    fixture.try_insert(&new(), Some("k"), MANY).await.unwrap();
    let yesterday =
        Timestamp::now() - SignedDuration::from_hours(24) - SignedDuration::from_secs(1);
    let mut tx = fixture.store.write().await.unwrap();
    sqlx::query("UPDATE requests SET created_at = ?")
        .bind(yesterday.as_microsecond())
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let again = fixture.try_insert(&new(), Some("k"), MANY).await.unwrap();
    assert!(matches!(again, Inserted::New(_)));
}

#[tokio::test]
async fn places_are_found_or_made() {
    let fixture = Fixture::new().await;
    let at = |place: PlaceRequest| NewSandbox { place, ..new() };
    let default = fixture.insert(&new()).await;
    let named = PlaceRequest {
        workspace_slug: Some("clinic".into()),
        workspace_name: Some("The Clinic".into()),
        project_slug: Some("magnet".into()),
        ..PlaceRequest::default()
    };
    let first = fixture.insert(&at(named.clone())).await;
    let second = fixture.insert(&at(named)).await;
    assert_ne!(first.workspace_id, default.workspace_id);
    assert_eq!(
        (first.workspace_id, first.project_id),
        (second.workspace_id, second.project_id)
    );
    let by_id = PlaceRequest {
        project_id: Some(first.project_id),
        ..PlaceRequest::default()
    };
    assert_eq!(
        fixture.insert(&at(by_id)).await.workspace_id,
        first.workspace_id
    );
    let listed = fixture
        .store
        .list_workspaces(&fixture.caller.tenant)
        .await
        .unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1].name, "The Clinic");

    let contradiction = PlaceRequest {
        workspace_id: Some(default.workspace_id),
        project_id: Some(first.project_id),
        ..PlaceRequest::default()
    };
    let unknown = PlaceRequest {
        workspace_id: Some(uuid::Uuid::now_v7()),
        ..PlaceRequest::default()
    };
    for (place, named) in [(contradiction, "project_id"), (unknown, "workspace_id")] {
        let refused = fixture.try_insert(&at(place), None, MANY).await;
        let Err(InsertError::Place(PlaceError::Field { field, .. })) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(field, named);
    }
}

#[tokio::test]
async fn slugs_are_unique_while_their_sandbox_exists() {
    let fixture = Fixture::new().await;
    let chosen = NewSandbox {
        slug: Some("mine".into()),
        ..new()
    };
    let first = fixture.insert(&chosen).await;
    let taken = fixture.try_insert(&chosen, None, MANY).await;
    assert!(matches!(taken, Err(InsertError::SlugTaken)));
    fixture.store.record_destroyed(&first.id).await.unwrap();
    fixture.insert(&chosen).await;
}

#[tokio::test]
async fn lists_match_every_filter() {
    let fixture = Fixture::new().await;
    let one = fixture
        .insert(&NewSandbox {
            external: ExternalIds {
                user: Some("u1".into()),
                ..ExternalIds::default()
            },
            tags: vec!["red".into(), "big".into()],
            ..new()
        })
        .await;
    let two = fixture
        .insert(&NewSandbox {
            tags: vec!["red".into()],
            ..new()
        })
        .await;
    fixture.ready(&two).await;
    let ids =
        |records: Vec<SandboxRecord>| -> Vec<_> { records.into_iter().map(|r| r.id).collect() };
    let all = fixture.list(SandboxFilter::default()).await;
    assert_eq!(ids(all), [two.id.clone(), one.id.clone()], "newest first");
    let tagged = |tags: &[&str]| SandboxFilter {
        tags: tags.iter().map(ToString::to_string).collect(),
        ..SandboxFilter::default()
    };
    assert_eq!(fixture.list(tagged(&["red"])).await.len(), 2);
    assert_eq!(
        ids(fixture.list(tagged(&["red", "big"])).await),
        std::slice::from_ref(&one.id)
    );
    assert!(fixture.list(tagged(&["' OR 1=1 --"])).await.is_empty());
    let running = SandboxFilter {
        state: Some(SandboxState::Running),
        ..SandboxFilter::default()
    };
    assert_eq!(
        ids(fixture.list(running).await),
        std::slice::from_ref(&two.id)
    );
    let user = SandboxFilter {
        external: ExternalIds {
            user: Some("u1".into()),
            ..ExternalIds::default()
        },
        ..SandboxFilter::default()
    };
    assert_eq!(ids(fixture.list(user).await), std::slice::from_ref(&one.id));
    let place = SandboxFilter {
        workspace_id: Some(one.workspace_id),
        project_id: Some(one.project_id),
        ..SandboxFilter::default()
    };
    assert_eq!(fixture.list(place).await.len(), 2);
    let counts = fixture.store.count_sandboxes().await.unwrap();
    assert_eq!(
        counts,
        [(SandboxState::Provisioning, 1), (SandboxState::Running, 1)]
    );
}

#[tokio::test]
async fn by_name_is_the_newest_that_exists() {
    let fixture = Fixture::new().await;
    let named = NewSandbox {
        name: Some("n".into()),
        ..new()
    };
    let old = fixture.insert(&named).await;
    let young = fixture.insert(&named).await;
    let found = async || {
        let found = fixture
            .store
            .sandbox_by_name(&fixture.caller.tenant, &Bounds::default(), "n")
            .await;
        found.unwrap().map(|record| record.id)
    };
    assert_eq!(found().await, Some(young.id.clone()));
    fixture.store.record_destroyed(&young.id).await.unwrap();
    assert_eq!(found().await, Some(old.id.clone()));
    fixture.store.record_destroyed(&old.id).await.unwrap();
    assert_eq!(found().await, None);
}

#[tokio::test]
async fn deadlines_count_from_the_start() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.store.next_deadline().await.unwrap(), None);
    let short = fixture
        .insert(&NewSandbox {
            timeout_sec: 10,
            ..new()
        })
        .await;
    assert_eq!(
        fixture.store.next_deadline().await.unwrap(),
        None,
        "not started yet"
    );
    let short = fixture.ready(&short).await.record;
    let long = fixture.insert(&new()).await;
    fixture.ready(&long).await;
    let forever = fixture
        .insert(&NewSandbox {
            timeout_sec: 1,
            always_on: true,
            ..new()
        })
        .await;
    assert_eq!(fixture.ready(&forever).await.record.deadline(), None);

    let deadline = short.started_at.unwrap() + SignedDuration::from_secs(10);
    assert_eq!(short.deadline(), Some(deadline));
    assert_eq!(fixture.store.next_deadline().await.unwrap(), Some(deadline));
    let just_before = deadline - SignedDuration::from_micros(1);
    assert!(
        fixture
            .store
            .expired_sandboxes(just_before)
            .await
            .unwrap()
            .is_empty()
    );
    let expired = fixture.store.expired_sandboxes(deadline).await.unwrap();
    assert_eq!(expired, [short]);
}

#[tokio::test]
async fn a_create_does_not_read_what_the_tenant_had() {
    let fixture = Fixture::new().await;
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", super::insert::LIVE));
    let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
        .bind(fixture.caller.tenant.as_str())
        .fetch_all(fixture.store.readers())
        .await
        .unwrap();
    assert!(plan[0].3.contains("USING INDEX sandboxes_live"), "{plan:?}");
}
