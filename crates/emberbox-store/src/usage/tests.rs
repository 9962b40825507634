use emberbox_core::{Event, Fact, Prices, SandboxId, SandboxState, Step, TenantId, VmId, step};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::sandbox::tests::Fixture;
use crate::{Boot, CreditChange, DestroyIntent, ExternalIds};

const PRICES: Prices = Prices {
    vcpu_hour: 50_000,
    memory_gib_hour: 7_001,
    disk_gib_hour: 13,
    egress_gib: 90_000,
};

const BOOT: Boot = Boot {
    path: "snapshot",
    ms: 1,
};

/// One sandbox whose clock the test moves.
struct World {
    fixture: Fixture,
    tenant: TenantId,
    id: SandboxId,
    now: Timestamp,
}

impl World {
    async fn new(terms: BillingTerms) -> Self {
        let (fixture, id) = Fixture::with_sandbox().await;
        fixture.store.set_billing_terms(&terms).await.unwrap();
        let record = fixture
            .store
            .undestroyed_sandboxes()
            .await
            .unwrap()
            .remove(0);
        Self {
            tenant: record.tenant,
            fixture,
            id,
            now: Timestamp::from_microsecond(1_700_000_000_123_456).unwrap(),
        }
    }

    fn store(&self) -> &Store {
        &self.fixture.store
    }

    fn pass(&mut self, ms: u32) {
        self.now += SignedDuration::from_millis(ms.into());
    }

    async fn record(&self) -> SandboxRecord {
        let found = self.store().sandbox(&self.tenant, &self.id).await;
        found.unwrap().unwrap()
    }

    /// Something happened to the sandbox, at this world's time.
    async fn fact(&self, fact: Fact) -> SandboxState {
        let before = self.record().await;
        let Step::To(state) = step(before.state, Event::Fact(fact)) else {
            return before.state;
        };
        let mut after = SandboxRecord {
            state,
            ..before.clone()
        };
        if fact == Fact::Ready {
            after.vm = VmId::generate();
        }
        let mut tx = self.store().write().await.unwrap();
        sqlx::query("UPDATE sandboxes SET state = ?, vm_id = ? WHERE id = ?")
            .bind(state.as_str())
            .bind(after.vm.as_str())
            .bind(self.id.as_str())
            .execute(&mut *tx)
            .await
            .unwrap();
        follow(&mut tx, &before, after, self.now).await.unwrap();
        tx.commit().await.unwrap();
        state
    }

    async fn open(&self) -> Option<OpenSegment> {
        self.store().open_segments().await.unwrap().pop()
    }

    async fn settle(&self, readings: Option<Readings>) {
        if let Some(segment) = self.open().await {
            let settled = self.store().settle_segment(&segment, self.now, readings);
            settled.await.unwrap();
        }
    }

    /// A settlement during which this process dies.
    async fn settle_and_die(&self) {
        if let Some(segment) = self.open().await {
            let mut tx = self.store().write().await.unwrap();
            let row = open(&mut *tx, "id", segment.id).await.unwrap().unwrap();
            let until = Until::Moment(self.now);
            settle(&mut tx, row, until, Then::GoesOn).await.unwrap();
            drop(tx);
        }
    }

    /// The server starts again and the VM is gone.
    async fn found_gone(&self) {
        if let Some(segment) = self.open().await
            && segment.kind == SegmentKind::Compute
        {
            self.store().close_lost_segment(&segment).await.unwrap();
            self.fact(Fact::Failed).await;
        }
    }

    async fn entries(&self) -> Vec<(i64, i64, i64, i64, i64, i64)> {
        sqlx::query_as(
            "SELECT segment_id, from_at, until_at, vcpu_ms, egress_bytes, charged_micro \
             FROM usage_entries ORDER BY id",
        )
        .fetch_all(self.store().readers())
        .await
        .unwrap()
    }

    async fn totals(&self) -> UsageTotals {
        let all = UsageFilter {
            from: Timestamp::MIN,
            until: Timestamp::MAX,
            workspace_id: None,
            project_id: None,
            sandbox: None,
            external: ExternalIds::default(),
        };
        self.store().usage_totals(&self.tenant, &all).await.unwrap()
    }
}

fn terms() -> BillingTerms {
    BillingTerms {
        prices: PRICES,
        ..BillingTerms::default()
    }
}

#[derive(Debug, Clone)]
enum Act {
    Ready,
    Pause,
    Fail,
    Destroy,
    Settle,
    SettleAndDie,
    FoundGone,
    Sent(u32),
    Granted(u32),
}

fn act() -> impl Strategy<Value = (u32, Act)> {
    let act = prop_oneof![
        4 => Just(Act::Ready),
        3 => Just(Act::Pause),
        1 => Just(Act::Fail),
        1 => Just(Act::Destroy),
        5 => Just(Act::Settle),
        2 => Just(Act::SettleAndDie),
        1 => Just(Act::FoundGone),
        3 => any::<u32>().prop_map(Act::Sent),
        2 => (1..u32::MAX).prop_map(Act::Granted),
    ];
    (prop_oneof![Just(0), 1..100_000_000_u32], act)
}

/// What the ledger must come to.
#[derive(Default)]
struct Expected {
    runtime_ms: i64,
    /// Since when it runs, and up to when that is proven.
    running: Option<(Timestamp, Timestamp)>,
    /// What the VM's counter shows, and what the ledger may know of it.
    counter: u64,
    sent: u64,
    granted: i64,
}

impl Expected {
    fn end(&mut self, at: Timestamp) {
        if let Some((since, _)) = self.running.take() {
            self.runtime_ms += at.as_millisecond() - since.as_millisecond();
            self.sent += std::mem::take(&mut self.counter);
        }
    }
}

async fn perform(world: &mut World, expected: &mut Expected, act: Act) {
    let now = world.now;
    match act {
        Act::Ready => {
            let before = world.record().await.state;
            if world.fact(Fact::Ready).await != before {
                expected.running = Some((now, now));
            }
        }
        Act::Pause | Act::Fail | Act::Destroy => {
            let fact = match act {
                Act::Pause => Fact::Paused,
                Act::Fail => Fact::Failed,
                _ => Fact::Destroyed,
            };
            if world.fact(fact).await != SandboxState::Running {
                expected.end(now);
            }
        }
        Act::Settle => {
            world.settle(None).await;
            if let Some((_, proven)) = &mut expected.running {
                *proven = now;
            }
        }
        Act::SettleAndDie => world.settle_and_die().await,
        Act::FoundGone => {
            if let Some((_, proven)) = expected.running {
                expected.end(proven);
            }
            world.found_gone().await;
        }
        Act::Sent(bytes) => {
            if expected.running.is_some() {
                expected.counter += u64::from(bytes);
                let vm = world.record().await.vm;
                let readings = Readings {
                    egress_bytes: expected.counter,
                    ..Readings::default()
                };
                world.store().note_readings(&vm, readings).await.unwrap();
            }
        }
        Act::Granted(micro) => {
            let change = CreditChange::Grant(micro.into());
            let by = world.fixture.caller().key.clone();
            let granted = world
                .store()
                .change_credit(&world.tenant, change, None, &by);
            granted.await.unwrap();
            expected.granted += i64::from(micro);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happens in whatever order, every proven millisecond is in the
    /// ledger once, and the balance is what was granted less what was charged.
    #[test]
    fn nothing_is_billed_twice_or_lost(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(terms()).await;
            let mut expected = Expected::default();
            for (ms, act) in acts {
                world.pass(ms);
                perform(&mut world, &mut expected, act).await;
            }
            world.fact(Fact::Destroyed).await;
            expected.end(world.now);

            let totals = world.totals().await;
            assert_eq!(totals.runtime_ms, expected.runtime_ms);
            assert_eq!(world.record().await.runtime_ms, expected.runtime_ms.unsigned_abs());
            assert_eq!(totals.egress_bytes.unsigned_abs(), expected.sent);
            let balance = world.store().credit_balance(&world.tenant).await.unwrap();
            assert_eq!(balance, expected.granted - totals.charged_micro);
            let moved: i64 = sqlx::query_scalar("SELECT coalesce(sum(amount_micro), 0) FROM credit_entries")
                .fetch_one(world.store().readers()).await.unwrap();
            assert_eq!(balance, moved);
            check_segments(&world).await;
        });
    }
}

/// The entries of each segment follow each other without gap or overlap and
/// cost what the whole segment costs at once.
async fn check_segments(world: &World) {
    let segments: Vec<(i64, i64, i64, Option<i64>)> =
        sqlx::query_as("SELECT id, opened_at, settled_until, ended_at FROM usage_segments")
            .fetch_all(world.store().readers())
            .await
            .unwrap();
    let entries = world.entries().await;
    let shape = world.record().await.shape;
    for (id, opened, settled, ended) in segments {
        assert_eq!(ended, Some(settled), "segment {id} is closed");
        let mut at = opened;
        let (mut egress, mut charged) = (0, 0);
        for (_, from, until, _, sent, micro) in entries.iter().filter(|entry| entry.0 == id) {
            assert_eq!(*from, at);
            at = *until;
            egress += sent;
            charged += micro;
        }
        assert_eq!(at, settled);
        let ms = (settled - opened).unsigned_abs() / 1000;
        let whole = Quantity {
            egress_bytes: u64::try_from(egress).unwrap(),
            ..Quantity::held(shape, ms)
        };
        assert_eq!(PRICES.charge(&whole, Carry::default()).0, charged);
    }
}

#[tokio::test]
async fn a_paused_disk_counts_only_if_it_shall() {
    for paused_disk in [false, true] {
        let terms = BillingTerms {
            paused_disk,
            ..terms()
        };
        let mut world = World::new(terms).await;
        world.fact(Fact::Ready).await;
        world.pass(1000);
        world.fact(Fact::Paused).await;
        world.pass(5000);
        world.settle(None).await;
        world.fact(Fact::Ready).await;
        world.pass(1000);
        world.fact(Fact::Destroyed).await;
        let totals = world.totals().await;
        let disk = i64::from(world.record().await.shape.disk_mib);
        let seconds = if paused_disk { 7 } else { 2 };
        assert_eq!(totals.runtime_ms, 2000);
        assert_eq!(totals.vcpu_ms, 2000);
        assert_eq!(totals.disk_mib_ms, disk * seconds * 1000);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_takes_nothing_back() {
    let mut world = World::new(terms()).await;
    world.fact(Fact::Ready).await;
    world.pass(10_000);
    world.settle(None).await;
    world.now -= SignedDuration::from_secs(3600);
    world.settle(None).await;
    world.fact(Fact::Destroyed).await;
    assert_eq!(world.totals().await.runtime_ms, 10_000);
}

#[tokio::test]
async fn entries_can_be_neither_changed_nor_removed() {
    let mut world = World::new(terms()).await;
    world.fact(Fact::Ready).await;
    world.pass(3_600_000);
    world.settle(None).await;
    for statement in [
        "UPDATE usage_entries SET charged_micro = 0",
        "DELETE FROM usage_entries",
        "UPDATE credit_entries SET balance_micro = 0",
        "DELETE FROM credit_entries",
    ] {
        let mut tx = world.store().write().await.unwrap();
        let refused = sqlx::query(statement).execute(&mut *tx).await.unwrap_err();
        assert!(refused.to_string().contains("appended"), "{refused}");
    }
}

#[tokio::test]
async fn what_is_not_settled_yet_shows_and_prices_of_before_stay() {
    let mut world = World::new(terms()).await;
    world.fact(Fact::Ready).await;
    world.pass(3_600_000);
    world.settle(None).await;
    let settled = world.totals().await.charged_micro;
    let free = BillingTerms::default();
    world.store().set_billing_terms(&free).await.unwrap();
    world.pass(1500);
    let record = world.record().await;
    let shown = world.store().sandbox_use(&record, world.now).await.unwrap();
    assert_eq!(shown.totals.runtime_ms, 3_601_500);
    assert_eq!(shown.totals.charged_micro, settled);
    assert_eq!(
        (shown.starts, world.totals().await.runtime_ms),
        (1, 3_600_000)
    );
    assert_eq!(record.total_runtime_sec(), None);
}

#[tokio::test]
async fn the_states_real_changes_open_and_close() {
    let (fixture, id) = Fixture::with_sandbox().await;
    let store = &fixture.store;
    let record = store.undestroyed_sandboxes().await.unwrap().remove(0);
    assert!(store.open_segments().await.unwrap().is_empty());
    store.record_ready(&id, &record.vm, BOOT).await.unwrap();
    let open = store.open_segments().await.unwrap().remove(0);
    assert_eq!((open.sandbox, open.vm), (id.clone(), record.vm));
    let intent = store.request_destroy(&record.tenant, &id).await.unwrap();
    assert!(matches!(intent, Some(DestroyIntent::Recorded(_))));
    assert_eq!(store.open_segments().await.unwrap().len(), 1);
    let gone = store.record_destroyed(&id).await.unwrap().unwrap().record;
    assert!(store.open_segments().await.unwrap().is_empty());
    let billed: i64 =
        sqlx::query_scalar("SELECT coalesce(sum(until_at - from_at), 0) FROM usage_entries")
            .fetch_one(store.readers())
            .await
            .unwrap();
    assert_eq!(gone.runtime_ms, billed.unsigned_abs() / 1000);
    assert_eq!(
        gone.total_runtime_sec(),
        Some((billed + 999_999) / 1_000_000)
    );
}
