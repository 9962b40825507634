//! `emberbox usage` and `emberbox credit`.

use crate::rig::{Server, stderr, stdout};

const ENTRY: &str = r#"{"data":{"id":1,"kind":"grant","amount_micro":12500000,
    "balance_micro":13000000,"sandbox_id":null,"note":null,
    "created_at":"2026-01-01T00:00:00.000000Z"}}"#;

#[test]
fn a_grant_sends_whole_micro_credits_and_prints_the_balance() {
    let server = Server::answering("201 Created", ENTRY);
    let output = server.call(&["credit", "grant", "tnt_1", "12.5", "--note", "hello"]);
    assert_eq!((stdout(&output), stderr(&output)), ("13\n", ""));
    let asked = server.asked();
    assert!(
        asked
            .line
            .starts_with("POST /api/v1/admin/tenants/tnt%5F1/credits "),
        "{}",
        asked.line
    );
    let body: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(body["amount_micro"], 12_500_000);
    assert_eq!(
        (&body["kind"], &body["note"]),
        (&"grant".into(), &"hello".into())
    );
}

#[test]
fn an_adjustment_may_go_down() {
    let server = Server::answering("201 Created", ENTRY);
    let output = server.call(&["credit", "adjust", "tnt_1", "-0.000001"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let body: serde_json::Value = serde_json::from_slice(&server.asked().body).unwrap();
    assert_eq!(
        (&body["kind"], &body["amount_micro"]),
        (&"adjustment".into(), &(-1).into())
    );
}

#[test]
fn amounts_that_are_none_are_refused_before_anything_is_sent() {
    let server = Server::answering("201 Created", ENTRY);
    for amount in ["1e3", "0.0000001", "ten"] {
        let output = server.call(&["credit", "grant", "tnt_1", amount]);
        assert_eq!(output.status.code(), Some(2), "{amount}");
        assert!(
            stderr(&output).contains("six decimals"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn usage_is_a_table_of_groups() {
    let report = r#"{"data":{"period_start":"2026-01-01T00:00:00.000000Z",
        "period_end":"2026-01-08T00:00:00.000000Z","group_by":"workspace_id","results":[
        {"group":"w1","sandbox_count":2,"session_count":3,"runtime_sec":61,
         "provisioned_vcpu_ms":60500,"provisioned_memory_mb_ms":1,"provisioned_disk_mb_ms":1,
         "active_cpu_ms":5,"network_egress_bytes":2097152,"network_ingress_bytes":0,
         "charged_micro":250000}]}}"#;
    let server = Server::answering("200 OK", report);
    let output = server.call(&["usage", "--period", "7d", "--by", "workspace_id"]);
    let table = "GROUP  RUNTIME  VCPU-SEC  EGRESS-MIB  CREDITS\nw1     61 s     60        2           0.25\n";
    assert_eq!(stdout(&output), table);
    let line = server.asked().line;
    assert!(
        line.starts_with("GET /api/v1/usage?period=7d&group_by=workspace%5Fid "),
        "{line}"
    );
}
