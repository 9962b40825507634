//! The ledger, accounts and metrics, over HTTP.

use emberbox_api::client::Client;
use emberbox_api::{ChangeCredits, CreateSandbox, Sandbox};
use emberbox_control::{BillingSettings, OnEmpty, Settings};
use emberbox_core::VmId;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::rig::{Rig, answer, eventually};

/// A credit for each hour of a vCPU makes some hundred micro-credits a second.
const CREDIT: u32 = 1_000_000;

fn billed(billing: BillingSettings) -> Settings {
    Settings {
        billing: BillingSettings {
            vcpu_hour_micro: CREDIT,
            egress_gib_micro: CREDIT,
            settle_interval_sec: 1,
            ..billing
        },
        ..Settings::default()
    }
}

async fn only_vm(rig: &Rig) -> VmId {
    rig.store
        .undestroyed_sandboxes()
        .await
        .unwrap()
        .remove(0)
        .vm
}

async fn usage(rig: &Rig, sandbox: &Sandbox) -> Value {
    let path = format!("/sandboxes/{}/usage", sandbox.id);
    answer(rig.request("GET", &path)).await.2["data"].clone()
}

async fn get(rig: &Rig, path: &str) -> Value {
    let (status, _, body) = answer(rig.request("GET", path)).await;
    assert_eq!(status, 200, "{path}: {body}");
    body["data"].clone()
}

async fn grant(rig: &Rig, amount_micro: i64) {
    let tenant = rig.client.whoami().await.unwrap().tenant_id;
    let change = ChangeCredits {
        amount_micro,
        ..ChangeCredits::default()
    };
    let granted = rig.client.change_credits(tenant.as_str(), &change).await;
    assert_eq!(granted.unwrap().amount_micro, amount_micro);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_is_in_the_ledger_to_the_millisecond() {
    let rig = Rig::with(billed(BillingSettings::default())).await;
    let sandbox = rig.sandbox().await;
    let vm = only_vm(&rig).await;
    rig.fleet.carry(&vm, 1 << 30);
    let settled = || async { get(&rig, "/usage/summary").await["runtime_sec"] != 0 };
    eventually("a settlement", settled).await;

    let now = usage(&rig, &sandbox).await;
    assert_eq!(
        (&now["state"], &now["creation_count"]),
        (&json!("running"), &json!(1))
    );
    assert_eq!(now["network_egress_bytes"], 1 << 30);
    assert_eq!(now["active_cpu_ms"], 1500);
    assert_eq!(now["measurement_status"]["network"], "measured");
    assert!(now["timeout_remaining_ms"].as_i64().unwrap() > 0, "{now}");
    assert!(
        now["estimated_cost_cents"].as_i64().unwrap() >= 100,
        "{now}"
    );

    // What it sent after the last settlement counts as well.
    rig.fleet.carry(&vm, 3 << 30);
    let gone = rig
        .client
        .destroy_sandbox(sandbox.id.as_str())
        .await
        .unwrap();
    let end = usage(&rig, &sandbox).await;
    assert_eq!(end["network_egress_bytes"], 3_i64 << 30);
    assert_eq!(end["runtime_sec"], gone.total_runtime_sec);
    assert_eq!(
        usage(&rig, &sandbox).await,
        end,
        "nothing is added after the end"
    );
    let seen = rig.client.get_sandbox(sandbox.id.as_str()).await.unwrap();
    assert_eq!(seen.total_runtime_sec, Some(gone.total_runtime_sec));

    let ms = end["provisioned_vcpu_ms"].as_i64().unwrap();
    assert_eq!(end["provisioned_memory_mb_ms"], 1024 * ms);
    assert_eq!(end["provisioned_disk_mb_ms"], 3072 * ms);
    let cost = ms * i64::from(CREDIT) / 3_600_000 + 3 * i64::from(CREDIT);
    assert_eq!(end["estimated_cost_micro"], cost);
    let credits = rig.client.credits().await.unwrap();
    assert_eq!(credits.balance_micro, -cost);
    assert!(
        credits
            .entries
            .iter()
            .all(|entry| entry.kind == "charge" && entry.sandbox_id.as_ref() == Some(&sandbox.id))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_summed_by_what_was_asked_for() {
    let rig = Rig::with(billed(BillingSettings::default())).await;
    let of_user = |user: &str| CreateSandbox {
        external_user_id: Some(user.to_owned()),
        ..CreateSandbox::default()
    };
    for user in ["ann", "bob", "ann"] {
        let sandbox = rig.client.create_sandbox(&of_user(user)).await.unwrap();
        let vm = only_vm(&rig).await;
        rig.fleet.carry(&vm, 100);
        rig.client
            .destroy_sandbox(sandbox.id.as_str())
            .await
            .unwrap();
    }
    let report = get(&rig, "/usage?group_by=external_user_id&period=7d").await;
    let groups: Vec<_> = report["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            (
                group["group"].as_str().unwrap(),
                group["sandbox_count"].as_i64().unwrap(),
                group["network_egress_bytes"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(groups, [("ann", 2, 200), ("bob", 1, 100)]);
    assert_eq!(
        get(&rig, "/usage").await["results"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let sessions = get(&rig, "/usage/sessions?external_user_id=ann").await;
    assert_eq!(sessions.as_array().unwrap().len(), 2);
    assert_eq!(sessions[0]["settled_until"], sessions[0]["ended_at"]);
    let workspace = sessions[0]["workspace_id"].as_str().unwrap();
    let query = format!("/usage/summary?workspace_id={workspace}");
    assert_eq!(get(&rig, &query).await["session_count"], 3);
    let past = "/usage/summary?start=2020-01-01T00:00:00Z&end=2021-01-01T00:00:00Z";
    assert_eq!(get(&rig, past).await["session_count"], 0);

    let other = rig
        .store
        .create_tenant("other")
        .await
        .unwrap()
        .secret
        .unwrap();
    let other = Client::new(&rig.url, other).unwrap();
    assert_eq!(
        other.usage_summary(&[]).await.unwrap().totals.session_count,
        0
    );
    let refused = other
        .sandbox_usage(sessions[0]["sandbox_id"].as_str().unwrap())
        .await;
    assert_eq!(refused.unwrap_err().code(), Some("NOT_FOUND"));
    for bad in [
        "/usage?group_by=x",
        "/usage/sessions?limit=0",
        "/usage/summary?period=x",
    ] {
        let (status, code, _) = answer(rig.request("GET", bad)).await;
        assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_pay_gets_no_sandbox_and_no_vm() {
    let rig = Rig::with(billed(BillingSettings {
        enforce: true,
        minimum_balance_micro: 500_000,
        ..BillingSettings::default()
    }))
    .await;
    for _ in 0..2 {
        let (status, code, body) = answer(rig.request("POST", "/sandboxes").json(&json!({}))).await;
        assert_eq!((status, code.as_str()), (402, "INSUFFICIENT_CREDITS"));
        assert!(
            body["error"]["message"].as_str().unwrap().contains("0.5"),
            "{body}"
        );
        grant(&rig, 499_999 / 2).await;
    }
    assert!(rig.store.undestroyed_sandboxes().await.unwrap().is_empty());
    assert!(rig.fleet.running().is_empty());
    grant(&rig, 1_000_000).await;
    rig.sandbox().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_operator_moves_an_account() {
    let rig = Rig::new().await;
    let made = rig.store.create_tenant("other").await.unwrap();
    let (tenant, secret) = (made.tenant, made.secret.unwrap());
    let other = Client::new(&rig.url, secret).unwrap();
    let path = format!("/admin/tenants/{tenant}/credits");
    let give = ChangeCredits {
        amount_micro: 7,
        note: Some("welcome".to_owned()),
        ..ChangeCredits::default()
    };
    let refused = other
        .change_credits(tenant.as_str(), &give)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some("INSUFFICIENT_SCOPE"));
    let given = rig
        .client
        .change_credits(tenant.as_str(), &give)
        .await
        .unwrap();
    assert_eq!((given.kind.as_str(), given.balance_micro), ("grant", 7));
    let taken = ChangeCredits {
        amount_micro: -9,
        kind: Some("adjustment".to_owned()),
        ..ChangeCredits::default()
    };
    rig.client
        .change_credits(tenant.as_str(), &taken)
        .await
        .unwrap();
    let seen = other.credits().await.unwrap();
    assert_eq!(
        (seen.balance_micro, seen.balance.as_str()),
        (-2, "-0.000002")
    );
    assert_eq!(seen.entries[1].note.as_deref(), Some("welcome"));
    assert_eq!(rig.client.credits().await.unwrap().balance_micro, 0);

    for body in [
        json!({}),
        json!({"amount_micro": 0}),
        json!({"amount_micro": -1}),
        json!({"amount_micro": 1.5}),
        json!({"amount_micro": "1"}),
        json!({"amount_micro": i64::MAX}),
        json!({"amount_micro": 1, "kind": "charge"}),
        json!({"amount_micro": 0, "kind": "adjustment"}),
        json!({"amount_micro": 1, "note": "x".repeat(513)}),
    ] {
        let (status, code, _) = answer(rig.request("POST", &path).json(&body)).await;
        assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"), "{body}");
    }
    for nobody in ["tnt_nobody", "tnt_01j9xr2t4fk8me3n5qv7w8x9y0"] {
        let refused = rig.client.change_credits(nobody, &give).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOT_FOUND"), "{nobody}");
    }
    assert_eq!(other.credits().await.unwrap().balance_micro, -2);
    let nobody = Client::new(&rig.url, SecretString::from("ebx_nobody".to_owned())).unwrap();
    let refused = nobody
        .change_credits(tenant.as_str(), &give)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some("UNAUTHORIZED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_account_loses_its_sandboxes_only_if_it_shall() {
    use emberbox_core::SandboxState;
    for (on_empty, becomes) in [
        (OnEmpty::Destroy, SandboxState::Destroyed),
        (OnEmpty::Pause, SandboxState::Paused),
        (OnEmpty::Keep, SandboxState::Running),
    ] {
        let rig = Rig::with(billed(BillingSettings {
            enforce: true,
            on_empty,
            ..BillingSettings::default()
        }))
        .await;
        grant(&rig, 1).await;
        let sandbox = rig.sandbox().await;
        let id = sandbox.id.as_str();
        let empty = || async { rig.client.credits().await.unwrap().balance_micro < 0 };
        eventually("an empty account", empty).await;
        if becomes == SandboxState::Running {
            // Two more settlements are two more times the policy was asked.
            let before = rig.client.credits().await.unwrap().entries.len();
            let later = || async { rig.client.credits().await.unwrap().entries.len() > before + 1 };
            eventually("two more settlements", later).await;
        }
        let so = || async { rig.client.get_sandbox(id).await.unwrap().state == becomes };
        eventually("what the policy says", so).await;
        if becomes == SandboxState::Paused {
            let resume = rig.request("POST", &format!("/sandboxes/{id}/resume"));
            let (status, code, _) = answer(resume).await;
            assert_eq!((status, code.as_str()), (402, "INSUFFICIENT_CREDITS"));
        }
        let (status, code, _) = answer(rig.request("POST", "/sandboxes").json(&json!({}))).await;
        assert_eq!((status, code.as_str()), (402, "INSUFFICIENT_CREDITS"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_bills_nothing_twice_and_nothing_unproven() {
    let rig = Rig::with(billed(BillingSettings::default())).await;
    let stays = rig.sandbox().await;
    let lost = rig.sandbox().await;
    let settled = || async { get(&rig, "/usage/summary").await["session_count"] == 2 };
    eventually("a settlement of both", settled).await;
    let records = rig.store.undestroyed_sandboxes().await.unwrap();
    let lost_vm = records
        .into_iter()
        .find(|record| record.id == lost.id)
        .unwrap()
        .vm;
    rig.fleet.lose(&lost_vm);
    let rig = rig.crash_and_restart().await;

    let session = |id: String| {
        let rig = &rig;
        async move { get(rig, &format!("/usage/sessions?sandbox_id={id}")).await[0].clone() }
    };
    let ended = session(lost.id.to_string()).await;
    assert_eq!(ended["ended_at"], ended["settled_until"]);
    let open = session(stays.id.to_string()).await;
    assert!(open["ended_at"].is_null(), "{open}");
    rig.client.destroy_sandbox(stays.id.as_str()).await.unwrap();
    rig.client.destroy_sandbox(lost.id.as_str()).await.unwrap();
    // One segment each, the whole of it in the ledger.
    for id in [stays.id, lost.id] {
        let session = session(id.to_string()).await;
        let time = |field: &str| session[field].as_str().unwrap().parse::<jiff::Timestamp>();
        let ran = time("ended_at")
            .unwrap()
            .duration_since(time("started_at").unwrap());
        assert_eq!(
            session["provisioned_vcpu_ms"],
            ran.as_millis() as i64,
            "{session}"
        );
        assert_eq!(session["session_count"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_resources_and_runtimes() {
    let rig = Rig::with(billed(BillingSettings::default())).await;
    let sandbox = rig.sandbox().await;
    let path = |what: &str| format!("/sandboxes/{}/{what}", sandbox.id);
    let sampled = || async {
        let metrics = get(&rig, &path("metrics?window=1h")).await;
        !metrics["history"].as_array().unwrap().is_empty()
    };
    eventually("a sample", sampled).await;
    let metrics = get(&rig, &path("metrics")).await;
    assert_eq!(
        (&metrics["resource_type"], &metrics["window_sec"]),
        (&json!("sandbox"), &json!(3600))
    );
    let current = &metrics["current"];
    assert_eq!(
        (&current["cpu_count"], &current["memory_mb"]),
        (&json!(1), &json!(1024))
    );
    assert_eq!(current["used"]["memory_pss_bytes"], 5000);
    assert_eq!(current["used"]["disk_allocated_bytes"], 6000);
    assert_eq!(current["used"]["cpu_percent"], 0.0);
    for bad in ["1", "x", "0h", "-1h", "1y"] {
        let request = rig.request("GET", &path(&format!("metrics?window={bad}")));
        assert_eq!(answer(request).await.1, "VALIDATION_ERROR", "{bad}");
    }
    let resources = get(&rig, &path("resources")).await;
    assert_eq!(
        resources["resources"],
        json!({"cpu": 1, "memory_mb": 1024, "disk_size_mb": 3072})
    );
    let runtimes = get(&rig, "/sandboxes/runtimes").await;
    assert_eq!(runtimes[0]["runtime_profile"], "standard");
    assert_eq!(runtimes[0]["available"], true);

    rig.client
        .destroy_sandbox(sandbox.id.as_str())
        .await
        .unwrap();
    let metrics = get(&rig, &path("metrics")).await;
    assert!(metrics["current"]["used"].is_null(), "{metrics}");
}
