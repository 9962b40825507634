//! Builds of templates on real VMs: from a spec to an image that boots, and
//! what is left when one fails, is cancelled or is killed.
//!
//! Needs root and the guest images in `EMBERBOX_HOME` (`cargo xtask setup`).

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod builds {
    //! What the tests share.
    pub(crate) mod rig;
}

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::Duration;

use emberbox_core::{BuildErrorCode, BuildId, BuildState};
use emberbox_host::build::BuildEvent;
use emberbox_host::{ArtifactsConfig, SourceConfig};
use emberbox_image::Home;
use emberbox_runtime::jail::become_jail_if_asked;
use libtest_mimic::{Arguments, Trial};
use serde_json::json;
use tokio::runtime::Runtime;

use builds::rig::{Rig, link_home, run, spec};

/// A build boots several VMs; a loaded machine takes many times that.
const TEST: Duration = Duration::from_secs(900);

macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        vec![$(trial(stringify!($test), || $test())),*]
    };
}

fn main() -> ExitCode {
    become_jail_if_asked();
    let mut arguments = Arguments::from_args();
    // The tests share two cores with the VMs they start.
    arguments.test_threads = Some(1);
    let missing = Rig::missing();
    let ignored = missing.is_some();
    if let (Some(missing), false) = (missing, arguments.list) {
        eprintln!("build tests skipped: {missing}");
        if std::env::var_os("EMBERBOX_REQUIRE_VMS").is_some() {
            return ExitCode::FAILURE;
        }
    }
    let trials: Vec<Trial> = trials![
        a_spec_becomes_an_image_that_boots_with_its_app,
        what_fails_says_why_and_leaves_nothing,
        a_cancelled_build_leaves_nothing,
        an_image_built_on_one_host_boots_on_another,
    ];
    let trials = trials
        .into_iter()
        .map(|trial| trial.with_ignored_flag(ignored));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn trial<F>(name: &str, test: fn() -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    Trial::test(name, move || {
        let runtime = Runtime::new().expect("a runtime");
        let ended = runtime.block_on(async { tokio::time::timeout(TEST, test()).await });
        ended.map_err(|_elapsed| "it did not end".into())
    })
}

async fn a_spec_becomes_an_image_that_boots_with_its_app() {
    let rig = Rig::open().await;
    // Of this run: what another one left is not to be found.
    let first = "echo made > made; echo \"$GREETING from $PWD\"; echo oops >&2; \
                 rm /etc/skel/.bashrc; mv /usr/share/doc /usr/share/papers; \
                 install -m 4755 /bin/true /usr/local/bin/raised; \
                 printf 'hello\\n' > index.html; sleep 1000 & true";
    let first = &format!("{first} # {}", BuildId::generate());
    let mut sent = spec(json!({
        "steps": [
            { "workdir": "/srv/app", "env": { "STEP_ONLY": "secret" } },
            { "run": first },
        ],
        "env": { "GREETING": "good\nday" },
        "workdir": "/srv/app",
        "user": "nobody:nogroup",
        "startCmd": "exec python3 -m http.server 8000 --directory /srv/app",
        "readyCmd": "curl -fs http://localhost:8000/index.html",
        "previewPort": 8000,
    }));
    // What the first step does is root's to do.
    sent.user = "root".to_owned();
    let (events, built) = rig.build(sent.clone()).await;
    let built = built.unwrap();
    assert!(built.app_running);
    assert_eq!((built.layers, built.cached_steps), (3, 0));
    let states = [
        BuildState::Building,
        BuildState::Snapshotting,
        BuildState::Certifying,
        BuildState::Distributing,
    ];
    let entered = events.iter().filter_map(|event| match event {
        BuildEvent::Entered(state) => Some(*state),
        BuildEvent::Step { .. } | BuildEvent::Output { .. } => None,
    });
    assert_eq!(entered.collect::<Vec<_>>(), states);
    let said = |step, line: &str| {
        let line = line.to_owned();
        events.contains(&BuildEvent::Output { step, line })
    };
    assert!(said(Some(1), "day from /srv/app"), "{events:?}");
    assert!(said(Some(1), "oops"), "{events:?}");
    let step = |index, command: &str, cached| BuildEvent::Step {
        index,
        command: command.to_owned(),
        cached,
    };
    assert!(events.contains(&step(0, "workdir /srv/app, env STEP_ONLY", false)));
    assert!(events.contains(&step(1, first, false)));

    let vm = rig.create(&built.image).await;
    assert_eq!(
        run(&rig, &vm, "curl -fs http://localhost:8000/").await,
        "hello"
    );
    assert_eq!(
        run(&rig, &vm, "echo \"$GREETING$STEP_ONLY\"").await,
        "good\nday"
    );
    assert_eq!(
        run(&rig, &vm, "stat -c %a /usr/local/bin/raised").await,
        "4755"
    );
    assert_eq!(
        run(
            &rig,
            &vm,
            "ls /etc/skel/.bashrc /usr/share/doc 2>&1 | wc -l"
        )
        .await,
        "2"
    );
    assert_eq!(
        run(&rig, &vm, "ls /usr/share/papers | head -1 | wc -l").await,
        "1"
    );
    assert_eq!(
        run(&rig, &vm, "cat /srv/app/made; pgrep -c sleep").await,
        "made\n0"
    );
    rig.host.destroy(&vm).await.unwrap();

    // Nothing has changed, so nothing runs; what has, begins there.
    let (_, again) = rig.build(sent.clone()).await;
    let again = again.unwrap();
    assert_eq!((&again.image, again.cached_steps), (&built.image, 1));
    // An image is as good a base as any.
    let child = spec(json!({
        "from": built.image,
        "steps": [{ "run": "cat /srv/app/made && id -un && pwd" }],
        "env": { "MORE": "1" },
        "user": "nobody",
    }));
    let (events, child) = rig.build(child).await;
    let child = child.unwrap();
    for line in ["made", "nobody", "/workspace"] {
        let line = line.to_owned();
        let event = BuildEvent::Output {
            step: Some(0),
            line,
        };
        assert!(events.contains(&event), "{events:?}");
    }
    rig.host.remove_image(&built.image).await.unwrap();
    assert!(!rig.host.has_image(&built.image));
    let vm = rig.create(&child.image).await;
    assert_eq!(
        run(&rig, &vm, "echo $GREETING$MORE; cat /srv/app/made").await,
        "good day1\nmade"
    );
    // Its layers stay for as long as it needs them.
    rig.host.remove_image(&child.image).await.unwrap();
    assert_eq!(run(&rig, &vm, "cat /srv/app/index.html").await, "hello");
    rig.host.destroy(&vm).await.unwrap();
    rig.host.remove_image(&child.image).await.unwrap();
    rig.close().await;
}

async fn what_fails_says_why_and_leaves_nothing() {
    let rig = Rig::open().await;
    for (fields, code, message) in [
        (
            json!({ "steps": [{ "run": "echo last words; exit 3" }] }),
            BuildErrorCode::StepFailed,
            "step 0 ended with exit code 3",
        ),
        (
            json!({ "steps": [{ "run": "head -c 1G /dev/zero > /big" }] }),
            BuildErrorCode::StepFailed,
            "step 0 ended with exit code 1",
        ),
        (
            json!({ "startCmd": "echo cannot bind; exit 4", "readyCmd": "false" }),
            BuildErrorCode::SnapshotFailed,
            "cannot bind",
        ),
        (
            json!({ "startCmd": "sleep 1000", "previewPort": 4321 }),
            BuildErrorCode::CertificationFailed,
            "previewPort",
        ),
    ] {
        let (events, built) = rig.build(spec(fields)).await;
        let failure = built.unwrap_err();
        assert_eq!(failure.code, code, "{failure} {events:?}");
        assert!(failure.message.contains(message), "{failure}");
        assert_eq!(rig.vm_directories(), [] as [String; 0]);
        assert_eq!(rig.built_images(), [] as [String; 0]);
    }
    rig.close().await;
}

async fn a_cancelled_build_leaves_nothing() {
    let rig = Rig::open().await;
    let slow = json!({
        "steps": [{ "run": "echo begun; sleep 1000" }],
    });
    let app = json!({
        "startCmd": "sleep 1000",
        "readyCmd": "false",
    });
    for (fields, when) in [
        (
            slow,
            BuildEvent::Output {
                step: Some(0),
                line: "begun".to_owned(),
            },
        ),
        (app.clone(), BuildEvent::Entered(BuildState::Building)),
        (app, BuildEvent::Entered(BuildState::Snapshotting)),
        (json!({}), BuildEvent::Entered(BuildState::Certifying)),
    ] {
        let failure = rig.cancel_at(spec(fields), &when).await;
        assert_eq!(
            failure.code,
            BuildErrorCode::BuildCancelled,
            "{when:?}: {failure}"
        );
        assert_eq!(rig.vm_directories(), [] as [String; 0], "{when:?}");
        assert_eq!(rig.built_images(), [] as [String; 0], "{when:?}");
    }
    rig.close().await;
}

async fn an_image_built_on_one_host_boots_on_another() {
    // Beside the images, so that links and clones work.
    let dir = tempfile::tempdir_in(Home::default_path()).unwrap();
    let at = |name: &str| dir.path().join(name);
    let artifacts = || ArtifactsConfig {
        source: Some(SourceConfig::Directory(at("source"))),
        max_bytes: None,
    };
    link_home(&at("a"));
    let a = Rig::open_with(&at("a"), artifacts()).await;
    let fields = json!({
        "steps": [{ "run": format!("echo made > /srv/made # {}", BuildId::generate()) }],
        "startCmd": "exec python3 -m http.server 8000 --directory /srv",
        "readyCmd": "curl -fs http://localhost:8000/made",
    });
    // What cannot be published is no image.
    fs::rename(at("source"), at("elsewhere")).unwrap();
    fs::write(at("source"), "no directory").unwrap();
    let (_, failed) = a.build(spec(fields.clone())).await;
    let failure = failed.unwrap_err();
    assert_eq!(
        failure.code,
        BuildErrorCode::DistributionFailed,
        "{failure}"
    );
    assert!(failure.message.contains("artifact source"), "{failure}");
    assert_eq!(a.built_images(), [] as [String; 0]);
    fs::remove_file(at("source")).unwrap();
    fs::rename(at("elsewhere"), at("source")).unwrap();

    let distributing = BuildEvent::Entered(BuildState::Distributing);
    let failure = a.cancel_at(spec(fields.clone()), &distributing).await;
    assert_eq!(failure.code, BuildErrorCode::BuildCancelled);
    assert_eq!(a.built_images(), [] as [String; 0]);

    let (events, built) = a.build(spec(fields)).await;
    let built = built.unwrap();
    let published = events.iter().any(|event| {
        matches!(event, BuildEvent::Output { step: None, line } if line.starts_with("published: "))
    });
    assert!(published, "{events:?}");
    a.leave().await;

    // Nothing is here but what is fetched, the seed included: it is restored.
    let b = Rig::open_with(&at("b"), artifacts()).await;
    assert!(!b.host.has_image(&built.image));
    let child = b
        .build(spec(json!({ "from": built.image })))
        .await
        .1
        .unwrap();
    assert_ne!(child.image, built.image);
    assert!(b.host.has_image(&built.image));
    let vm = b.create(&built.image).await;
    assert_eq!(
        run(&b, &vm, "curl -fs http://localhost:8000/made").await,
        "made"
    );
    b.host.destroy(&vm).await.unwrap();

    // What was damaged meanwhile, image and seed, is fetched again.
    let home = Home::open(at("b")).unwrap();
    let images = emberbox_image::images(&home, &built.image)
        .unwrap()
        .unwrap();
    let shape = spec(json!({})).shape();
    let seed = b.host.seed_files(&built.image, shape).unwrap();
    for (path, offset) in [
        (&images.layers[0], 600 << 20),
        (&seed.snapshot.memory, 64 << 20),
    ] {
        // Not the file that A has as well.
        let file = fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(b"damage", offset).unwrap();
    }
    let vm = b.create(&built.image).await;
    assert_eq!(run(&b, &vm, "cat /srv/made").await, "made");
    b.host.destroy(&vm).await.unwrap();

    // Removed, it is gone from the source as well.
    let described = at("source").join("images").join(&built.image);
    assert!(described.join("image.json").exists());
    b.host.remove_image(&built.image).await.unwrap();
    assert!(!described.join("image.json").exists());
    b.leave().await;
}
