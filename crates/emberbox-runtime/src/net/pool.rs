//! The slots of one server: prepared in the background, handed out at once,
//! found again after a restart, removed.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::dns::Upstreams;
use super::ledger::Ledger;
use super::link::Links;
use super::make::Workshop;
use super::namespace::{self, NamespaceThread};
use super::slot::Slot;
use super::{NetConfig, NetError, SlotIndex, SlotSet, rules};

/// Slots made at a time in the background. Making one is mostly waiting for
/// `nft` and for the kernel's one lock over all links: more only take the
/// processor from guests.
const REFILL_AT_A_TIME: usize = 2;

/// Rest after a slot could not be made, so that a broken machine is told about
/// in the log once a second and not a thousand times.
const REFILL_REST: Duration = Duration::from_secs(1);

/// The network slots of one server.
///
/// Dropped without [`SlotPool::close`], it leaves every slot as it is, like a
/// crash.
pub struct SlotPool {
    shared: Arc<Shared>,
    refill: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    workshop: Workshop,
    state: Mutex<State>,
    /// Something changed that the refill should look at.
    changed: Notify,
}

#[derive(Default)]
struct State {
    idle: VecDeque<Arc<Slot>>,
    /// Slots this process is making, holds or has handed out.
    known: HashSet<SlotIndex>,
    closed: bool,
}

impl SlotPool {
    /// Loads the host's rules, switches forwarding on and begins to prepare
    /// slots. Must be called on the runtime that will serve them.
    pub async fn open(config: NetConfig) -> Result<Arc<Self>, NetError> {
        let ledger = Ledger::open(&config.run_dir, config.instance)?;
        let instance = config.instance;
        let allowed = config.allowed_private.clone();
        let ledger = blocking(move || {
            {
                let _locked = ledger.lock_machine()?;
                namespace::prepare_directory()?;
            }
            rules::load_host(instance, &allowed)?;
            enable_forwarding()?;
            Ok(ledger)
        })
        .await?;
        let links = Links::open(&Handle::current()).map_err(NetError::io("connect to netlink"))?;
        let shared = Arc::new(Shared {
            workshop: Workshop {
                mtu: links.uplink_mtu().await?,
                upstreams: Arc::new(Upstreams::new(config.upstream_dns.as_deref())),
                thread: NamespaceThread::start()
                    .map_err(NetError::io("start the namespace thread"))?,
                ledger,
                links,
                config,
            },
            state: Mutex::default(),
            changed: Notify::new(),
        });
        let refill = tokio::spawn(refill(Arc::clone(&shared)));
        Ok(Arc::new(Self {
            shared,
            refill: Mutex::new(Some(refill)),
        }))
    }

    /// A slot of one's own, its DNS relay serving: at once if one is prepared,
    /// else it is made now. Dropping the future loses no slot.
    pub async fn take(&self) -> Result<Arc<Slot>, NetError> {
        let prepared = {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(NetError::Closed);
            }
            state.idle.pop_front()
        };
        let slot = match prepared {
            Some(slot) => slot,
            None => self.make_now().await?,
        };
        self.shared.changed.notify_one();
        slot.start_relay(&self.shared.workshop.upstreams);
        Ok(slot)
    }

    /// The slot of a VM that was started before this process and still runs.
    /// Its DNS relay serves again and its rules are brought up to date.
    pub async fn adopt(&self, index: SlotIndex) -> Result<Arc<Slot>, NetError> {
        let slot = self.shared.workshop.find(index).await?;
        self.shared.lock().known.insert(index);
        slot.start_relay(&self.shared.workshop.upstreams);
        Ok(slot)
    }

    /// Removes a slot: its veth pair, its name and its record are gone when
    /// this returns; the namespace with its TAP ends with the last descriptor
    /// of it, this [`Slot`]'s included. The VM must have ended. Idempotent; goes
    /// on to its end if the future is dropped. After an error, call it again or
    /// leave the rest to [`SlotPool::reap_except`].
    pub async fn discard(&self, slot: &Arc<Slot>) -> Result<(), NetError> {
        let shared = Arc::clone(&self.shared);
        let slot = Arc::clone(slot);
        finish(tokio::spawn(async move { shared.discard(&slot).await })).await
    }

    /// Removes every slot of this instance that is not in `keep` and not made
    /// or adopted by this process, half-made ones included. Says how many.
    pub async fn reap_except(&self, keep: &SlotSet) -> Result<usize, NetError> {
        let shared = Arc::clone(&self.shared);
        let keep = keep.clone();
        finish(tokio::spawn(async move { shared.reap_except(&keep).await })).await
    }

    /// Removes the slots that were prepared and not handed out, and the host's
    /// rules if no slot of this instance is left. Slots of running VMs stay.
    /// Idempotent.
    pub async fn close(&self) -> Result<(), NetError> {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        let refill = self.refill.lock().expect("no panic while taking").take();
        if let Some(refill) = refill {
            finish(tokio::spawn(async move { Ok(refill.await) }))
                .await?
                .map_err(|failed| NetError::io("end the refill")(failed.into()))?;
        }
        loop {
            let Some(slot) = self.shared.lock().idle.pop_front() else {
                break;
            };
            self.discard(&slot).await?;
        }
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            if shared.workshop.ledger.ours()?.is_empty() {
                rules::remove_host(shared.workshop.config.instance)?;
            }
            Ok(())
        })
        .await
    }

    /// Slots prepared and waiting.
    #[must_use]
    pub fn prepared(&self) -> usize {
        self.shared.lock().idle.len()
    }

    async fn make_now(&self) -> Result<Arc<Slot>, NetError> {
        let (answer, made) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let made = shared.make().await;
            // Nobody may be there any more to take it.
            let _ = answer.send(made.map(|slot| Offer {
                slot: Some(slot),
                shared,
            }));
        });
        let offer = made.await.unwrap_or(Err(NetError::Closed))?;
        Ok(offer.accept())
    }
}

/// A slot that was made for somebody. Not accepted, because they have gone
/// before it was sent or before they looked, it serves the next one; of a pool
/// that is closed it is removed.
struct Offer {
    slot: Option<Arc<Slot>>,
    shared: Arc<Shared>,
}

impl Offer {
    fn accept(mut self) -> Arc<Slot> {
        self.slot.take().expect("a slot is accepted once")
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else {
            return;
        };
        {
            let mut state = self.shared.lock();
            if !state.closed {
                state.idle.push_back(slot);
                return;
            }
        }
        // Without a runtime the server ends, and the next start removes it.
        if let Ok(runtime) = Handle::try_current() {
            let shared = Arc::clone(&self.shared);
            runtime.spawn(async move {
                if let Err(error) = shared.discard(&slot).await {
                    let error = chain(&error);
                    tracing::error!(slot = %slot.index(), %error, "a network slot is left");
                }
            });
        }
    }
}

impl Drop for SlotPool {
    fn drop(&mut self) {
        if let Ok(mut refill) = self.refill.lock()
            && let Some(refill) = refill.take()
        {
            refill.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the state is held")
    }

    async fn make(&self) -> Result<Arc<Slot>, NetError> {
        let index = {
            // In one step, or a reap in between would take it for a left-over.
            let mut state = self.lock();
            let index = self.workshop.ledger.claim()?;
            state.known.insert(index);
            index
        };
        let error = match self.workshop.build(index).await {
            Ok(slot) => return Ok(slot),
            Err(error) => error,
        };
        if let Err(error) = self.workshop.remove(index).await {
            tracing::error!(slot = %index, error = %chain(&error), "a half-made network slot is left");
        }
        self.lock().known.remove(&index);
        Err(error)
    }

    async fn discard(&self, slot: &Slot) -> Result<(), NetError> {
        let mut gone = slot.gone.lock().await;
        if *gone {
            return Ok(());
        }
        slot.end_relay();
        let removed = self.workshop.remove(slot.index()).await;
        // From here on a reap may finish what failed.
        self.lock().known.remove(&slot.index());
        removed?;
        *gone = true;
        Ok(())
    }

    async fn reap_except(&self, keep: &SlotSet) -> Result<usize, NetError> {
        let workshop = &self.workshop;
        let instance = workshop.config.instance;
        let mut found: BTreeSet<SlotIndex> = workshop.ledger.ours()?.into_iter().collect();
        // What somebody who wiped the ledger left.
        found.extend(namespace::list(instance)?);
        let links = workshop.links.of_instance(instance).await?;
        found.extend(links.into_iter().map(|(slot, _link)| slot));
        // After looking: what is made meanwhile was either not seen or is known.
        found.retain(|index| !keep.contains(index) && !self.lock().known.contains(index));
        for &index in &found {
            workshop.remove(index).await?;
        }
        if !found.is_empty() {
            tracing::info!(count = found.len(), "removed left-over network slots");
        }
        Ok(found.len())
    }
}

/// Keeps the pool full until it is closed; ends when nothing is being made.
async fn refill(shared: Arc<Shared>) {
    let mut making = JoinSet::new();
    loop {
        let (closed, idle) = {
            let state = shared.lock();
            (state.closed, state.idle.len())
        };
        if closed && making.is_empty() {
            return;
        }
        let missing = shared.workshop.config.pool_size.saturating_sub(idle);
        while !closed && making.len() < missing.min(REFILL_AT_A_TIME) {
            let shared = Arc::clone(&shared);
            making.spawn(async move { shared.make().await });
        }
        let made = tokio::select! {
            Some(made) = making.join_next() => made,
            () = shared.changed.notified() => continue,
        };
        match made {
            Ok(Ok(slot)) => shared.lock().idle.push_back(slot),
            Ok(Err(error)) => {
                tracing::warn!(error = %chain(&error), "cannot prepare a network slot");
                if !closed {
                    tokio::select! {
                        () = tokio::time::sleep(REFILL_REST) => {}
                        () = shared.changed.notified() => {}
                    }
                }
            }
            Err(panic) => tracing::error!(%panic, "preparing a network slot panicked"),
        }
    }
}

/// Lets the machine forward packets. Never switched off again: others may have
/// come to rely on it.
fn enable_forwarding() -> Result<(), NetError> {
    let path = "/proc/sys/net/ipv4/ip_forward";
    let doing = || NetError::io("let the host forward packets (net.ipv4.ip_forward)");
    if fs::read_to_string(path).map_err(doing())?.trim() == "0" {
        fs::write(path, "1").map_err(doing())?;
        tracing::info!("switched net.ipv4.ip_forward on: guests reach the outside through it");
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> Result<T, NetError> {
    finish(tokio::task::spawn_blocking(work)).await
}

/// The outcome of a task that runs to its end whoever waits for it.
async fn finish<T>(task: JoinHandle<Result<T, NetError>>) -> Result<T, NetError> {
    task.await
        .unwrap_or_else(|failed| Err(NetError::io("finish work on network slots")(failed.into())))
}

fn chain(error: &NetError) -> String {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
