//! What the control plane itself costs: the API over a host that makes no VMs,
//! with SQLite on disk, on one core. `cargo xtask bench api` runs it and tells
//! what it prints.
//!
//! The server has one core; who asks has another one, where there is one.

#![expect(clippy::unwrap_used, reason = "a measurement may panic")]
#![expect(clippy::print_stdout, reason = "the figures go there")]

mod ask;
mod cores;
mod serve;

#[path = "../../tests/http/rig"]
#[expect(dead_code, reason = "the tests use all of it")]
mod rig {
    pub(crate) mod builder;
    pub(crate) mod fleet;
}

use std::time::{Duration, Instant};

use serde::Serialize;

use ask::{Asker, get, milliseconds, post};
use serve::{SANDBOXES, Served};

/// Turns of each of the two servers whose rates are compared.
const TURNS: usize = 10;

/// How long a turn lasts.
const TURN: Duration = Duration::from_millis(500);

/// Connections that ask at the same time.
const CONNECTIONS: usize = 16;

/// Lists of each kind.
const LISTS: usize = 100;

/// Creates that are counted, and before them.
const CREATES: usize = 5000;
const WARM_UP: usize = 500;

/// Creates a second at the half of what is wanted, and for how long.
const PACE: u32 = 500;
const PACED: u32 = 5000;

#[derive(Serialize)]
struct Figures {
    /// Whether who asks has a core of its own.
    own_core: bool,
    get: Option<Gets>,
    list: Vec<Lists>,
    create: Option<Creates>,
    paced: Option<Paced>,
}

/// What is measured: what is named on the command line, or everything.
struct Parts(Vec<String>);

impl Parts {
    fn named() -> Self {
        // `cargo bench` says that it is one.
        let named = std::env::args().skip(1).filter(|part| part != "--bench");
        Self(named.collect())
    }

    fn has(&self, part: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|named| named == part)
    }
}

/// Reading one sandbox beside a handler that only answers the same bytes.
#[derive(Serialize)]
struct Gets {
    bytes: usize,
    bare_per_second: Vec<f64>,
    sandbox_per_second: Vec<f64>,
}

/// One way to list some of many sandboxes.
#[derive(Serialize)]
struct Lists {
    query: &'static str,
    sandboxes: usize,
    bytes: usize,
    ms: Vec<f64>,
}

#[derive(Serialize)]
struct Creates {
    creates: usize,
    per_second: f64,
}

/// Creates that come at their own pace, whatever the server does.
#[derive(Serialize)]
struct Paced {
    per_second: u32,
    ms: Vec<f64>,
}

fn main() {
    let own_core = cores::split();
    let parts = Parts::named();
    let served = Served::start();
    let asking = std::thread::spawn({
        let served = served.clone();
        move || {
            cores::move_away();
            ask::block_on(measure(own_core, &parts, &served))
        }
    });
    let figures = asking.join().unwrap();
    served.stop();
    println!("{}", serde_json::to_string_pretty(&figures).unwrap());
}

async fn measure(own_core: bool, parts: &Parts, served: &Served) -> Figures {
    let mut figures = Figures {
        own_core,
        get: None,
        list: Vec::new(),
        create: None,
        paced: None,
    };
    if parts.has("get") {
        figures.get = Some(gets(served).await);
    }
    if parts.has("create") {
        figures.create = Some(creates(served).await);
    }
    if parts.has("paced") {
        figures.paced = Some(paced(served).await);
    }
    if parts.has("list") {
        served.fill();
        figures.list = lists(served).await;
    }
    figures
}

async fn gets(served: &Served) -> Gets {
    let path = format!("/api/v1/sandboxes/{}", served.sandbox);
    let of_ours = get(&path, &served.key);
    let mut ours = Asker::connect_many(served.address, CONNECTIONS).await;
    let body = ours[0].ask(&of_ours).await.body;
    let bare = served.serve_bare(&body);
    let mut bares = Asker::connect_many(bare, CONNECTIONS).await;
    // The same request: both read the same head.
    assert_eq!(bares[0].ask(&of_ours).await.body, body);
    let mut gets = Gets {
        bytes: body.len(),
        bare_per_second: Vec::new(),
        sandbox_per_second: Vec::new(),
    };
    for turn in 0..=TURNS {
        let bare = ask::rate(&mut bares, &of_ours, TURN).await;
        let ours = ask::rate(&mut ours, &of_ours, TURN).await;
        // The first one warms up.
        if turn > 0 {
            gets.bare_per_second.push(bare);
            gets.sandbox_per_second.push(ours);
        }
    }
    gets
}

async fn lists(served: &Served) -> Vec<Lists> {
    let mut asker = Asker::connect(served.address).await;
    let mut lists = Vec::new();
    for (query, expected) in [
        ("external_user_id=user-7", 100),
        ("tags=group-7", 100),
        ("state=running", 100),
        ("state=error&limit=100", 100),
    ] {
        let request = get(&format!("/api/v1/sandboxes?{query}"), &served.list_key);
        let mut ms = Vec::with_capacity(LISTS);
        let mut bytes = 0;
        for turn in 0..=LISTS {
            let began = Instant::now();
            let answer = asker.ask(&request).await;
            if turn == 0 {
                let list: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(list["data"].as_array().unwrap().len(), expected, "{query}");
                bytes = answer.body.len();
            } else {
                ms.push(milliseconds(began));
            }
        }
        lists.push(Lists {
            query,
            sandboxes: SANDBOXES,
            bytes,
            ms,
        });
    }
    lists
}

async fn creates(served: &Served) -> Creates {
    let requests = of_creators(served);
    let mut askers = Asker::connect_many(served.address, CONNECTIONS).await;
    ask::many(&mut askers, &requests, WARM_UP).await;
    let began = Instant::now();
    ask::many(&mut askers, &requests, CREATES).await;
    Creates {
        creates: CREATES,
        per_second: CREATES as f64 / began.elapsed().as_secs_f64(),
    }
}

async fn paced(served: &Served) -> Paced {
    let requests = of_creators(served);
    Paced {
        per_second: PACE,
        ms: ask::paced(served.address, &requests, PACE, PACED).await,
    }
}

fn of_creators(served: &Served) -> Vec<Vec<u8>> {
    let keys = served.creators.iter();
    keys.map(|key| post("/api/v1/sandboxes", key, "{}"))
        .collect()
}
