use BuildState::*;

use super::*;
use crate::sandbox::tests::{Fixture, at_most, new as new_sandbox};
use crate::template::tests::new as new_template;
use crate::{InsertError, NewSandbox, TemplateError, TemplateRecord};

const MANY: u32 = 100;

struct Builds {
    fixture: Fixture,
    template: TemplateRecord,
}

impl Builds {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let template = fixture
            .store
            .insert_template(fixture.caller(), &new_template("app"), MANY)
            .await
            .unwrap();
        Self { fixture, template }
    }

    fn store(&self) -> &Store {
        &self.fixture.store
    }

    fn tenant(&self) -> &TenantId {
        &self.fixture.caller().tenant
    }

    async fn queue(&self, max_open: u32) -> Result<BuildRecord, BuildError> {
        let new = NewBuild {
            template: self.template.id.clone(),
            spec: None,
            metadata: Map::new(),
        };
        self.store()
            .insert_build(self.tenant(), &new, max_open)
            .await
    }

    async fn begin(&self) -> BuildRecord {
        self.store().begin_next_build(&[]).await.unwrap().unwrap()
    }

    /// A build that is ready with this image.
    async fn built(&self, image: &str) -> BuildRecord {
        self.queue(MANY).await.unwrap();
        let begun = self.begin().await;
        let outcome = BuildOutcome::Built(built(image));
        let finished = self
            .store()
            .finish_build(&begun.id, begun.attempt, &outcome);
        finished.await.unwrap().unwrap()
    }

    async fn states(&self, build: &BuildRecord) -> Vec<BuildState> {
        let events = self.store().build_events(&build.id, 0, 1000).await.unwrap();
        let states = events
            .into_iter()
            .filter(|event| matches!(event.kind, BuildEventKind::State { .. }));
        states.map(|event| event.state).collect()
    }

    async fn log(&self, build: &BuildRecord) -> Vec<BuildEventKind> {
        let events = self
            .store()
            .build_events(&build.id, 0, 100_000)
            .await
            .unwrap();
        let kinds = events.into_iter().map(|event| event.kind);
        kinds
            .filter(|kind| !matches!(kind, BuildEventKind::State { .. }))
            .collect()
    }
}

fn built(image: &str) -> BuildImage {
    BuildImage {
        image: image.to_owned(),
        digest: "sha256:0".to_owned(),
        size_bytes: 7,
        layers: 2,
        cached_steps: 1,
        app_running: true,
    }
}

fn line(text: &str) -> BuildLine {
    BuildLine::Output {
        step: Some(0),
        line: text.to_owned(),
    }
}

#[tokio::test]
async fn a_build_goes_through_its_phases_and_its_template_boots_it() {
    let builds = Builds::new().await;
    let store = builds.store();
    let queued = builds.queue(1).await.unwrap();
    assert_eq!(
        (queued.state, queued.version, queued.attempt),
        (Queued, 1, 1)
    );
    let over = builds.queue(1).await;
    assert!(matches!(over, Err(BuildError::LimitExceeded(1))));
    let open = store.delete_template(builds.tenant(), &builds.template.id);
    assert!(matches!(open.await, Err(TemplateError::BuildOpen)));

    let begun = builds.begin().await;
    assert_eq!(
        (begun.id.clone(), begun.state),
        (queued.id.clone(), Building)
    );
    assert!(store.begin_next_build(&[]).await.unwrap().is_none());
    for (phase, changes) in [
        (Building, false),
        (Snapshotting, true),
        (Building, false),
        (Distributing, true),
        (Ready, false),
    ] {
        let entered = store.enter_build_phase(&begun.id, 1, phase).await.unwrap();
        assert_eq!(entered.is_some(), changes, "{phase}");
    }
    let outcome = BuildOutcome::Built(built("img-1"));
    let ready = store.finish_build(&begun.id, 1, &outcome).await.unwrap();
    let ready = ready.unwrap();
    assert_eq!(
        (ready.state, ready.image.clone()),
        (Ready, Some(built("img-1")))
    );
    assert!(ready.finished_at >= ready.started_at && ready.started_at.is_some());
    assert_eq!(
        builds.states(&ready).await,
        [Queued, Building, Snapshotting, Distributing, Ready]
    );
    let denied = store.cancel_build(builds.tenant(), &ready.id).await;
    assert!(matches!(denied, Err(BuildError::Denied(Ready))));
    let denied = store.retry_build(builds.tenant(), &ready.id, MANY).await;
    assert!(matches!(denied, Err(BuildError::Denied(Ready))));

    let template = store
        .template(builds.tenant(), "app")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(template.ready_build.unwrap().image, "img-1");
    assert_eq!(template.latest_build, Some((ready.id, Ready)));
}

#[tokio::test]
async fn what_an_older_attempt_says_changes_nothing() {
    let builds = Builds::new().await;
    let store = builds.store();
    builds.queue(MANY).await.unwrap();
    let begun = builds.begin().await;
    assert!(
        store
            .append_build_log(&begun.id, 1, &[line("old")])
            .await
            .unwrap()
    );
    let cancelled = store
        .cancel_build(builds.tenant(), &begun.id)
        .await
        .unwrap();
    assert_eq!(cancelled.state, Cancelled);
    assert_eq!(cancelled.error.unwrap().0, BuildErrorCode::BuildCancelled);
    assert!(
        !store
            .append_build_log(&begun.id, 1, &[line("late")])
            .await
            .unwrap()
    );

    let again = store
        .retry_build(builds.tenant(), &begun.id, MANY)
        .await
        .unwrap();
    assert_eq!((again.state, again.attempt), (Queued, 2));
    assert_eq!(again.error, None);
    assert_eq!(builds.log(&again).await, []);
    // It is not begun while the old attempt's work goes on.
    let running = [begun.id.clone()];
    assert!(store.begin_next_build(&running).await.unwrap().is_none());
    let failed = BuildOutcome::Failed(BuildErrorCode::Internal, "late".to_owned());
    assert!(
        store
            .finish_build(&begun.id, 1, &failed)
            .await
            .unwrap()
            .is_none()
    );
    let built = BuildOutcome::Built(built("img-late"));
    assert!(
        store
            .finish_build(&begun.id, 1, &built)
            .await
            .unwrap()
            .is_none()
    );
    // Its image is found all the same.
    assert_eq!(store.take_unneeded_images().await.unwrap(), ["img-late"]);
    let before = store.before_build_attempt(&begun.id, 2).await.unwrap();
    let events = store.build_events(&begun.id, before, 10).await.unwrap();
    assert_eq!((events.len(), events[0].attempt), (1, 2));
}

#[tokio::test]
async fn a_server_that_ends_queues_its_builds_again_but_not_for_ever() {
    let builds = Builds::new().await;
    let store = builds.store();
    builds.queue(MANY).await.unwrap();
    for _ in 0..INTERRUPTIONS_MAX {
        let begun = builds.begin().await;
        store
            .append_build_log(&begun.id, 1, &[line("x")])
            .await
            .unwrap();
        let interrupted = store.interrupt_builds().await.unwrap();
        assert_eq!(interrupted[0].state, Queued);
        assert_eq!(builds.log(&begun).await, []);
    }
    builds.begin().await;
    let failed = store.interrupt_builds().await.unwrap().remove(0);
    assert_eq!(failed.state, Failed);
    assert_eq!(failed.error.unwrap().0, BuildErrorCode::Internal);
    assert!(store.interrupt_builds().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_log_is_cut_where_it_is_too_long() {
    let builds = Builds::new().await;
    let store = builds.store();
    builds.queue(MANY).await.unwrap();
    let begun = builds.begin().await;
    let step = BuildLine::Step {
        index: 0,
        command: "make".to_owned(),
        cached: false,
    };
    store
        .append_build_log(&begun.id, 1, std::slice::from_ref(&step))
        .await
        .unwrap();
    let lines = vec![line(&"x".repeat(100_000)); 50];
    assert!(store.append_build_log(&begun.id, 1, &lines).await.unwrap());
    assert!(store.append_build_log(&begun.id, 1, &lines).await.unwrap());
    let log = builds.log(&begun).await;
    assert_eq!(log.first(), Some(&BuildEventKind::Line(step)));
    assert_eq!(log.last(), Some(&BuildEventKind::Cut));
    let cuts = log.iter().filter(|kind| **kind == BuildEventKind::Cut);
    assert_eq!((cuts.count(), log.len()), (1, 1 + 41 + 1));
}

#[tokio::test]
async fn an_image_goes_when_nobody_needs_it() {
    let builds = Builds::new().await;
    let store = builds.store();
    let first = builds.built("img-1").await;
    let from = |build: &BuildRecord| NewSandbox {
        image_id: build.image.clone().unwrap().image,
        build: Some(build.id.clone()),
        ..new_sandbox()
    };
    let caller = builds.fixture.caller();
    let inserted = store
        .insert_sandbox(caller, &from(&first), None, &at_most(MANY))
        .await;
    let crate::Inserted::New(sandbox) = inserted.unwrap() else {
        panic!("not made");
    };
    assert_eq!(sandbox.build, Some(first.id.clone()));
    assert!(store.take_unneeded_images().await.unwrap().is_empty());
    // The same content under another version is one image.
    builds.built("img-1").await;
    builds.built("img-2").await;
    assert!(store.take_unneeded_images().await.unwrap().is_empty());
    store
        .request_destroy(&sandbox.tenant, &sandbox.id)
        .await
        .unwrap();
    store.record_destroyed(&sandbox.id).await.unwrap();
    assert_eq!(store.take_unneeded_images().await.unwrap(), ["img-1"]);
    assert!(store.take_unneeded_images().await.unwrap().is_empty());
    let gone = store
        .insert_sandbox(caller, &from(&first), None, &at_most(MANY))
        .await;
    assert!(matches!(gone, Err(InsertError::ImageGone)));

    let template = &builds.template.id;
    assert!(
        store
            .delete_template(builds.tenant(), template)
            .await
            .unwrap()
    );
    assert_eq!(store.take_unneeded_images().await.unwrap(), ["img-2"]);
    store.image_stays("img-2").await.unwrap();
    assert_eq!(store.take_unneeded_images().await.unwrap(), ["img-2"]);
    // Whose template is gone is not shown, but what came from it is known.
    assert_eq!(store.build(builds.tenant(), &first.id).await.unwrap(), None);
    assert!(store.build_of_sandbox(&first.id).await.unwrap().is_some());
}
