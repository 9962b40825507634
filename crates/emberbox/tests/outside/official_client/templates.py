"""How a user of the official client makes a template and boots it.

PLATFORM_TEMPLATE is a template of the platform that is ready; the last line
says it went well.
"""

import json
import os
import time
import urllib.request

from miosa import Miosa
from miosa.errors import MiosaError

PLATFORM = json.loads(os.environ["PLATFORM_TEMPLATE"])
SPEC = PLATFORM["build_spec"]
LONGEST = 300

with Miosa() as client:
    templates = client.sandbox_templates
    listed = {template["id"]: template for template in templates.list()}
    assert listed[PLATFORM["id"]]["state"] == "ready", listed
    assert listed["nextjs"]["image_id"] == "miosa-sandbox", listed
    aliases = [template["id"] for template in templates.list(include_aliases=True)]
    assert "python-3.12" in aliases, aliases

    assert templates.build_spec_schema()["version"], "no version"
    valid = templates.validate(SPEC)
    assert valid["valid"] and valid["build_spec"]["workdir"] == "/workspace", valid
    wrong = templates.validate({"from": "node:22-alpine", "previewPort": 0})
    codes = {(error["field"], error["code"]) for error in wrong["errors"]}
    expected = {("from", "UNSUPPORTED_BASE_IMAGE"), ("previewPort", "INVALID_PORT")}
    assert not wrong["valid"] and codes == expected, wrong

    made = templates.create(name="My App", build_spec=SPEC, description="of my own")
    assert made["slug"] == "my-app" and made["state"] == "draft", made
    try:
        client.sandboxes.create("my-app")
        raise AssertionError("a template that was never built was booted")
    except MiosaError as error:
        assert error.code == "TEMPLATE_NOT_READY", error

    build = templates.create_build(made["id"])
    deadline = time.monotonic() + LONGEST
    while build["state"] not in ("ready", "failed", "cancelled"):
        assert time.monotonic() < deadline, build
        time.sleep(0.5)
        build = client.sandboxes.get_template_build(build["id"])["data"]
    assert build["state"] == "ready", build
    assert [known["id"] for known in templates.list_builds("my-app")] == [build["id"]]
    assert templates.get("my-app")["ready_build_id"] == build["id"]

    sandbox = client.sandboxes.create("my-app", timeout_sec=3600)
    try:
        assert sandbox.wait_until_ready(), "not ready"
        assert sandbox.boot_path == "snapshot", sandbox.boot_path
        url = client.sandboxes.get(sandbox.id).preview_url
        with urllib.request.urlopen(f"{url}/hello?name=me", timeout=60) as answer:
            assert answer.read() == b"Hello, me!\n"
    finally:
        sandbox.destroy()
    # The client has no call for it.
    client._transport.request("DELETE", f"/sandbox-templates/{made['id']}")

print("all well")
