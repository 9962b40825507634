//! The wall between tenants.

use serde_json::json;

use crate::every_call::every_call;
use crate::rig::Rig;
use crate::rig::sandbox::Sandbox;

pub(crate) fn another(rig: &Rig) {
    let api = rig.api();
    let (other, other_api) = rig.another_tenant("another");
    let body = json!({ "timeout_sec": 3600, "name": "walled", "tags": ["walled"] });
    let sandbox = Sandbox::with(&api, &body);
    sandbox.upload("/workspace/secret", b"mine");

    for (call, answer) in every_call(&other_api, &sandbox.id) {
        assert_eq!(answer.status, 404, "{call}: {}", answer.text());
        let error = answer.refused(404, "NOT_FOUND");
        // Not a word that tells it from one that nobody has.
        assert_eq!(error["message"], "sandbox not found");
    }
    other_api
        .get("/sandboxes/by-name/walled")
        .refused(404, "NOT_FOUND");
    for query in ["", "?tags=walled", "?state=running"] {
        let list = other_api.get(&format!("/sandboxes{query}")).ok(200);
        assert_eq!(list, json!({ "data": [] }));
    }
    let project = json!({ "project_id": sandbox.record["project_id"] });
    other_api.post("/sandboxes", &project).names("project_id");

    // One key of both is two keys.
    let key = [("idempotency-key", "shared by chance")];
    let create = |api: &crate::rig::api::Api| {
        let answer = api.try_post("/sandboxes?wait=true", &json!({}), &key);
        answer.unwrap().ok(201)
    };
    let ours = Sandbox::known(&api, create(&api));
    let theirs = Sandbox::known(&other_api, create(&other_api));
    assert_ne!(ours.id, theirs.id);
    assert_eq!(theirs.record["tenant_id"], other.as_str());
    api.get(&theirs.at("")).refused(404, "NOT_FOUND");

    assert_eq!(sandbox.get()["state"], "running");
    assert_eq!(sandbox.say("cat /workspace/secret"), "mine");
    sandbox.lacks("/tmp/intruder");
}
