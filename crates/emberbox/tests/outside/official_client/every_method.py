"""Every method of the official client that is about sandboxes, found by
looking at the client itself.

Prints a JSON object: each method and what becomes of it. A method that nothing
below speaks of, or that fails, is told as such.
"""

import asyncio
import inspect
import json
import threading
from importlib.metadata import version

from miosa import Miosa
from miosa.resources.sandboxes import Sandbox

# Two versions use one server.
VERSION = version("miosa")

# Namespaces of the client that are about sandboxes.
NAMESPACES = [
    "sandboxes", "sandbox_templates", "templates", "sandbox_batches", "snapshot_history",
    "named_snapshots", "snapshots", "commands", "sse_ticket", "deployments", "account", "usage",
    "events", "bulk", "workspaces", "projects", "api_keys", "tokens", "ws", "runtimes",
]

EGRESS = "a sandbox has no egress policies, secrets and connectors of its own"
APPS = "a deployment is a running sandbox under a name: it has no builds, versions or settings"
PARTS = "workspaces and projects group sandboxes and have no settings and environments"
KEYS = "keys have no presets and events"
AGENTS = "agents are no part of this server"
SSH = "there is no SSH server; terminals and exec reach a sandbox"
LOOK_INTO = "a snapshot is forked or restored to be looked into"
OTHERS = "computers and databases are no part of this server"
OPERATORS = "for operators of the vendor's service; see snapshot_history"
SIZE = "a VM keeps its size"
PORTS = "ports are reached through previews"

# Methods, or all that begin so, that are not offered, and why.
NOT_OFFERED = {
    "sandbox.network.": EGRESS,
    "sandbox.secrets.": EGRESS,
    "sandbox.audit.": EGRESS,
    "sandbox.connectors.": EGRESS,
    "sandbox.deploy_docker": "deployments are sandboxes, not containers",
    "sandbox.prompt": AGENTS,
    "sandbox.run_agent": AGENTS,
    "sandbox.resize": SIZE,
    "sandbox.ssh_": SSH,
    "sandboxes.resize": SIZE,
    "sandboxes.browser_cdp_url": "the images have no browser",
    "snapshot_history.tree": LOOK_INTO,
    "snapshot_history.file": LOOK_INTO,
    "snapshots.": OPERATORS,
    "commands.run_computer": OTHERS,
    "deployments.": APPS,
    "bulk.jobs.": "operations on many answer at once",
    "bulk.policy.": EGRESS,
    "workspaces.": PARTS,
    "workspaces.list_computers": OTHERS,
    "workspaces.list_databases": OTHERS,
    "workspaces.list_deployments": "see deployments.list",
    "workspaces.get_usage": "see usage.report",
    "projects.": PARTS,
    "api_keys.": KEYS,
    "api_keys.create_scoped": "see tokens.create_scoped",
    "ws.connect_ssh_tunnel": SSH,
    "ws.ssh_tunnel_url": SSH,
    "ws.connect_tunnel": PORTS,
    "ws.tunnel_url": PORTS,
}

BACKGROUND = "python3 -m http.server 8000"

# Nothing listens where its base should come from: its builds end soon.
BUILD_SPEC = {"from": "127.0.0.1:9/nothing:1", "startCmd": "true"}


def holds(what, why=None):
    assert what, why if why is not None else what


def first(events):
    """The first of a stream, which is closed then."""
    try:
        return next(iter(events))
    finally:
        close = getattr(events, "close", None)
        if close:
            close()


def until_seen(watch, change):
    """What a watch sees while something is changed again and again."""
    over = threading.Event()

    def keep_changing():
        number = 0
        while not over.wait(0.2):
            number += 1
            change(number)

    changing = threading.Thread(target=keep_changing, daemon=True)
    changing.start()
    try:
        return first(watch)
    finally:
        over.set()
        changing.join()


class Calls:
    """A call of each method; what they need of each other is kept here."""

    def __init__(self, client):
        self.client = client
        self.kept = {}
        self.sandbox = client.sandboxes.create(
            "miosa-sandbox", name="every-method", tags=["every"], timeout_sec=3600, metadata={"a": 1}
        )
        holds(self.sandbox.wait_until_ready())
        self.sandbox.refresh()

    def table(self):
        """In this order: what comes later may need what was before."""
        c, s, kept = self.client, self.sandbox, self.kept
        id = s.id
        run = lambda command: s.exec.run(command)
        keep = lambda name, value: kept.__setitem__(name, value) or value
        clean = lambda sandbox_id: c.sandboxes.delete(sandbox_id)
        previews = lambda namespace: [
            ("create", lambda: holds(keep("preview", namespace.create(port=8000))["url"])),
            ("list", lambda: holds(namespace.list())),
            ("get", lambda: holds(namespace.get(kept["preview"]["id"])["id"])),
            ("share", lambda: holds(namespace.share(kept["preview"]["id"])["share_url"])),
            ("revoke_share", lambda: namespace.revoke_share(kept["preview"]["id"])),
            ("expose", lambda: holds(namespace.expose(8000).startswith("http"))),
            ("delete", lambda: namespace.delete(kept["preview"]["id"])),
        ]
        data = lambda answer: answer.get("data", answer)
        templates = lambda name, namespace, create, build, builds: [
            (f"{name}.{create}", lambda: keep(f"{name}.template", data(getattr(namespace, create)(
                name=f"Every {name} {VERSION}", build_spec=BUILD_SPEC))["id"])),
            (f"{name}.{build}", lambda: keep(name, data(getattr(namespace, build)(kept[f"{name}.template"]))["id"])),
            (f"{name}.{builds}", lambda: holds(len(rows(getattr(namespace, builds)(kept[f"{name}.template"]))) == 1)),
        ]
        rows = lambda answer: answer if isinstance(answer, list) else answer["data"]
        table = [
            ("sandbox.wait_until_ready", lambda: holds(s.wait_until_ready())),
            ("sandbox.readiness", lambda: holds(s.readiness())),
            ("sandbox.refresh", lambda: holds(s.refresh().state == "running")),
            ("sandbox.exec", lambda: holds(s.exec("echo hi").stdout == "hi\n")),
            ("sandbox.exec.run", lambda: holds(run("exit 3").exit_code == 3)),
            ("sandbox.exec.stream", lambda: holds(len(list(s.exec.stream("echo a; echo b"))) == 3)),
            ("sandbox.exec_stream", lambda: holds(len(list(s.exec_stream("echo a"))) == 2)),
            ("sandbox.run", lambda: holds(s.run("echo hi").stdout == "hi\n")),
            ("sandbox.commands.run", lambda: holds(keep("job", s.commands.run("cat", background=True)).pid)),
            ("sandbox.commands.stream", lambda: holds(len(list(s.commands.stream("echo a"))) == 2)),
            ("sandbox.commands.send_stdin", self.send_stdin),
            ("sandbox.run_code", lambda: holds(s.run_code("20 + 1").result == 21)),
            ("sandbox.code_contexts", lambda: holds(s.code_contexts())),
            ("sandbox.reset_code", lambda: s.reset_code()),
            ("sandbox.processes.start", lambda: keep("pid", s.processes.start(BACKGROUND, name="web")["pid"])),
            ("sandbox.processes.list", lambda: holds(s.processes.list())),
            ("sandbox.processes.get", lambda: holds(s.processes.get(kept["pid"])["status"] == "running")),
            ("sandbox.processes.logs", lambda: holds(isinstance(s.processes.logs(kept["pid"]), str))),
            ("sandbox.processes.stream", lambda: holds(list(s.processes.stream(s.processes.start("echo hi")["pid"])))),
            ("sandbox.processes.stop", lambda: s.processes.stop(kept["pid"])),
            ("sandbox.write_file", lambda: s.write_file("/workspace/a.txt", "text")),
            ("sandbox.read_file", lambda: holds(s.read_file("/workspace/a.txt") == "text")),
            ("sandbox.stat_file", lambda: holds(s.stat_file("/workspace/a.txt")["size"] == 4)),
            ("sandbox.list_files", lambda: holds(s.list_files("/workspace")["entries"])),
            ("sandbox.upload", lambda: s.upload("/workspace/b", b"\x00\xff")),
            ("sandbox.download", lambda: holds(s.download("/workspace/b") == b"\x00\xff")),
            ("sandbox.files.write", lambda: s.files.write("/workspace/c", "c")),
            ("sandbox.files.upload", lambda: s.files.upload("/workspace/c", b"cc")),
            ("sandbox.files.read", lambda: holds(s.files.read("/workspace/c") == b"cc")),
            ("sandbox.files.read_text", lambda: holds(s.files.read_text("/workspace/c") == "cc")),
            ("sandbox.files.download", lambda: holds(s.files.download("/workspace/c") == b"cc")),
            ("sandbox.files.stat", lambda: holds(s.files.stat("/workspace/c")["size"] == 2)),
            ("sandbox.files.list", lambda: holds(s.files.list("/workspace")["entries"])),
            ("sandbox.files.tree", lambda: holds(s.files.tree("/workspace")["children"])),
            ("sandbox.files.write_files", self.write_files),
            ("sandbox.files.write_many", lambda: holds(s.files.write_many([{"path": "/workspace/m", "content": "m"}])["written"])),
            ("sandbox.files.watch", lambda: holds(until_seen(s.files.watch("/workspace"), self.change))),
            ("sandbox.files.watch_dir", lambda: holds(until_seen(s.files.watch_dir("/workspace"), self.change))),
            ("sandbox.create_export", lambda: holds(s.create_export(["/workspace/a.txt"])["files"])),
            ("sandbox.download_export", lambda: holds(s.download_export("/workspace/a.txt") == b"text")),
            ("sandbox.git.clone", self.clone),
            ("sandbox.git.commit", lambda: self.git(s.git.commit("/workspace/repo", message="more"))),
            ("sandbox.git.push", lambda: self.git(s.git.push("/workspace/repo", branch="main"))),
            ("sandbox.git.pull", lambda: self.git(s.git.pull("/workspace/repo", branch="main"))),
            ("sandbox.env.set", lambda: s.env.set([{"key": "COLOUR", "value": "red"}])),
            ("sandbox.env.list", lambda: holds(s.env.list() is not None)),
            ("sandbox.env.get", lambda: holds(run("echo $COLOUR").stdout == "red\n")),
            ("sandbox.env.delete", lambda: s.env.delete("COLOUR")),
            ("sandbox.tags.set", lambda: s.tags.set(["every", "one"])),
            ("sandbox.terminal.create", lambda: holds(keep("terminal", s.terminal.create())["session_id"])),
            ("sandbox.terminal.delete", lambda: s.terminal.delete(kept["terminal"]["session_id"])),
            ("sandbox.start_template", lambda: s.start_template({"install": False, "start_command": BACKGROUND, "port": 8000})),
            ("sandbox.get_logs", lambda: holds(s.get_logs(lines=5))),
            ("sandbox.logs.get", lambda: holds(s.logs.get(lines=5))),
            ("sandbox.logs.stream", lambda: holds(first(s.logs.stream()))),
            ("sandbox.stream_logs", lambda: holds(first(s.stream_logs()))),
            ("sandbox.artifacts.list", lambda: holds(s.artifacts.list())),
            ("sandbox.get_artifacts", lambda: holds(s.get_artifacts())),
            ("sandbox.expose", lambda: holds(s.expose(8000).startswith("http"))),
            ("sandbox.expose_info", lambda: holds(s.expose_info(8000))),
            ("sandbox.get_url", lambda: holds(s.get_url(8000).startswith("http"))),
            ("sandbox.get_host", lambda: holds(s.get_host(8000))),
            *[(f"sandbox.preview.{name}", call) for name, call in previews(s.preview)],
            *[(f"sandbox.previews.{name}", call) for name, call in previews(s.previews)],
            ("sandbox.preview_token", lambda: holds(s.preview_token())),
            ("sandbox.share.create", lambda: keep("share", s.share.create())),
            ("sandbox.share.list", lambda: holds(s.share.list())),
            ("sandbox.share.revoke", lambda: s.share.revoke(kept["share"]["share_id"])),
            ("sandbox.usage", lambda: holds(s.usage())),
            ("sandbox.metrics", lambda: holds(s.metrics())),
            ("sandbox.get_metrics", lambda: holds(s.get_metrics())),
            ("sandbox.resources", lambda: holds(s.resources())),
            ("sandbox.events.stream", lambda: holds(first(s.events.stream()))),
            ("sandbox.update", lambda: holds(s.update(metadata={"b": 2}))),
            ("sandbox.extend", lambda: holds(s.extend(3600))),
            ("sandbox.create_snapshot", lambda: keep("snapshot", s.create_snapshot("one"))),
            ("sandbox.snapshots.create", lambda: keep("second", s.snapshots.create("two"))),
            ("sandbox.snapshot", lambda: keep("third", s.snapshot())),
            ("sandbox.list_snapshots", lambda: holds(len(s.list_snapshots()) == 3)),
            ("sandbox.snapshots.list", lambda: holds(len(s.snapshots.list()) == 3)),
            ("sandbox.restore_snapshot", lambda: s.restore_snapshot(kept["snapshot"]["id"])),
            ("sandbox.snapshots.restore", lambda: s.snapshots.restore(kept["second"]["id"])),
            ("sandbox.delete_snapshot", lambda: s.delete_snapshot(kept["second"]["id"])),
            ("sandbox.snapshots.delete", lambda: s.snapshots.delete(kept["third"])),
            ("snapshot_history.list", lambda: holds(data(c.snapshot_history.list(resource_id=id)))),
            ("snapshot_history.groups", lambda: holds(data(c.snapshot_history.groups()))),
            ("snapshot_history.get", lambda: holds(c.snapshot_history.get(kept["snapshot"]["id"])["dependents"] == [])),
            ("snapshot_history.fork", lambda: clean(c.snapshot_history.fork(kept["snapshot"]["id"])["data"]["id"])),
            ("named_snapshots.create", lambda: c.named_snapshots.create("every", snapshot_id=kept["snapshot"]["id"])),
            ("named_snapshots.list", lambda: holds(data(c.named_snapshots.list()))),
            ("named_snapshots.get", lambda: holds(data(c.named_snapshots.get("every"))["name"] == "every")),
            ("named_snapshots.deploy", lambda: clean(c.named_snapshots.deploy("every")["data"]["id"])),
            ("named_snapshots.delete", lambda: holds(data(c.named_snapshots.delete("every"))["outcome"] == "released")),
            ("sandbox.deploy_snapshot", lambda: holds(s.deploy_snapshot(kept["snapshot"]["id"], name="every-snapshot", port=8000))),
            ("snapshot_history.bulk_delete", lambda: holds(data(c.snapshot_history.bulk_delete(ids=["snap_x"]))["failed"])),
            ("snapshot_history.delete", lambda: c.snapshot_history.delete(kept["snapshot"]["id"])),
            ("sandbox.fork", lambda: clean(s.fork(name="every-fork").id)),
            ("sandbox.pause", lambda: holds(s.pause().state == "paused")),
            ("sandbox.wait_for_checkpoint", lambda: holds(s.wait_for_checkpoint())),
            ("sandbox.resume", lambda: holds(s.resume().state == "running")),
            ("sandbox.stop", lambda: holds(s.stop().state in ("paused", "stopped"))),
            ("bulk.sandboxes.resume", lambda: holds(data(c.bulk.sandboxes.resume(ids=[id]))["succeeded"] == [id])),
            ("bulk.sandboxes.pause", lambda: holds(data(c.bulk.sandboxes.pause(ids=[id]))["succeeded"] == [id])),
            ("sandboxes.get_or_create", lambda: holds(c.sandboxes.get_or_create("every-method").id == id)),
            ("sandboxes.get", lambda: holds(c.sandboxes.get(id).state == "running")),
            ("sandboxes.connect", lambda: holds(c.sandboxes.connect(id).id == id)),
            ("sandboxes.get_by_name", lambda: holds(c.sandboxes.get_by_name("every-method").id == id)),
            ("sandboxes.list", lambda: holds(id in [other.id for other in c.sandboxes.list()])),
            ("sandboxes.resources", lambda: holds(c.sandboxes.resources(id))),
            ("sandboxes.list_templates", lambda: holds(c.sandboxes.list_templates())),
            ("sandboxes.get_template", lambda: holds(c.sandboxes.get_template("miosa-sandbox"))),
            ("sandboxes.create_agent_workspace", lambda: clean(c.sandboxes.create_agent_workspace("every-agent").id)),
            ("sandboxes.get_build_spec_schema", lambda: holds(c.sandboxes.get_build_spec_schema()["fields"])),
            ("sandboxes.validate_build_spec", lambda: holds(c.sandboxes.validate_build_spec(BUILD_SPEC)["valid"])),
            *templates("sandboxes", c.sandboxes, "create_template", "create_template_build", "list_template_builds"),
            ("sandboxes.get_template_build", lambda: holds(data(c.sandboxes.get_template_build(kept["sandboxes"]))["build_spec"]["from"])),
            *templates("sandbox_templates", c.sandbox_templates, "create", "create_build", "list_builds"),
            ("sandbox_templates.build_spec_schema", lambda: holds(c.sandbox_templates.build_spec_schema()["fields"])),
            ("sandbox_templates.validate", lambda: holds(not c.sandbox_templates.validate({})["valid"])),
            *templates("templates", getattr(c, "templates", None), "create", "create_build", "list_builds"),
            ("templates.build_spec_schema", lambda: holds(c.templates.build_spec_schema()["fields"])),
            ("templates.validate", lambda: holds(not c.templates.validate({})["valid"])),
            ("sandbox_templates.list", lambda: holds(c.sandbox_templates.list())),
            ("sandbox_templates.get", lambda: holds(c.sandbox_templates.get("miosa-sandbox"))),
            ("templates.catalog", lambda: holds(c.templates.catalog()["templates"])),
            ("templates.list", lambda: holds(c.templates.list(product="sandbox"))),
            ("templates.get", lambda: holds(c.templates.get("miosa-sandbox"))),
            ("templates.readiness", lambda: holds(c.templates.readiness("miosa-sandbox"))),
            ("runtimes.list", lambda: holds(c.runtimes.list())),
            ("commands.run", lambda: keep("command", c.commands.run(id, "sleep 60", detached=True))),
            ("commands.list", lambda: holds(c.commands.list(id))),
            ("commands.get", lambda: holds(c.commands.get(id, self.command()))),
            ("commands.logs", lambda: c.commands.logs(id, self.command())),
            ("commands.kill", lambda: c.commands.kill(id, self.command())),
            ("sandbox_batches.create", lambda: keep("batch", data(c.sandbox_batches.create(count=1, name="every-batch"))["id"])),
            ("sandbox_batches.events", lambda: holds(list(c.sandbox_batches.events(kept["batch"])))),
            ("sandbox_batches.get", lambda: holds(c.sandbox_batches.get(kept["batch"]))),
            ("sandbox_batches.items", lambda: holds(c.sandbox_batches.items(kept["batch"]))),
            ("sandbox_batches.cancel", lambda: holds(c.sandbox_batches.cancel(kept["batch"]))),
            ("bulk.sandboxes.destroy", lambda: holds(data(c.bulk.sandboxes.destroy(ids=[c.sandboxes.get_by_name("every-batch").id]))["succeeded"])),
            ("sandbox_batches.run", lambda: clean(data(c.sandbox_batches.run(command="true"))["id"])),
            ("sse_ticket.create", lambda: holds(c.sse_ticket.create()["ticket"])),
            ("events.stream", lambda: holds(until_seen(c.events.stream(types=["sandbox.*"]), self.blink))),
            ("ws.terminal_url", lambda: holds(c.ws.terminal_url(id))),
            ("ws.connect_terminal", self.connect_terminal),
            ("sandbox.deploy", lambda: keep("deployment", s.deploy(name="every-app"))),
            ("deployments.publish_from_sandbox", lambda: holds(c.deployments.publish_from_sandbox(id, name="every-app"))),
            ("deployments.list", lambda: holds(c.deployments.list())),
            ("deployments.get", lambda: holds(c.deployments.get(kept["deployment"]["id"]).name == "every-app")),
            ("deployments.delete", lambda: c.deployments.delete(kept["deployment"]["id"])),
            ("account.whoami", lambda: holds(c.account.whoami())),
            ("usage.current", lambda: holds(c.usage.current() is not None)),
            ("usage.get", lambda: holds(c.usage.get() is not None)),
            ("usage.report", lambda: holds(c.usage.report() is not None)),
            ("usage.sessions", lambda: holds(c.usage.sessions() is not None)),
            ("workspaces.create", lambda: keep("workspace", c.workspaces.create("Every").id)),
            ("workspaces.list", lambda: holds(kept["workspace"] in [one.id for one in c.workspaces.list()])),
            ("workspaces.get", lambda: holds(c.workspaces.get(kept["workspace"]).name == "Every")),
            ("workspaces.update", lambda: holds(c.workspaces.update(kept["workspace"], name="Each").name == "Each")),
            ("workspaces.list_sandboxes", lambda: holds(c.workspaces.list_sandboxes(s.data["workspace_id"]))),
            ("workspaces.list_projects", lambda: holds(c.workspaces.list_projects(kept["workspace"]))),
            ("projects.create", lambda: keep("project", c.projects.create("Every", workspace_id=kept["workspace"])["id"])),
            ("projects.list", lambda: holds(len(c.projects.list(workspace_id=kept["workspace"])) == 2)),
            ("projects.get", lambda: holds(c.projects.get(kept["project"])["name"] == "Every")),
            ("projects.update", lambda: holds(c.projects.update(kept["project"], name="Each")["name"] == "Each")),
            ("projects.delete", lambda: c.projects.delete(kept["project"])),
            ("tokens.create_scoped", lambda: keep("token", c.tokens.create_scoped(
                user_id="every", workspace_id=kept["workspace"], scopes=["sandboxes:create", "sandboxes:exec"])["id"])),
            ("tokens.list_scoped", lambda: holds(c.tokens.list_scoped())),
            ("tokens.delete_scoped", lambda: c.tokens.delete_scoped(kept["token"])),
            ("workspaces.delete", lambda: c.workspaces.delete(kept["workspace"])),
            ("api_keys.create", lambda: keep("key", data(c.api_keys.create(name="every"))["id"])),
            ("api_keys.list", lambda: holds(c.api_keys.list())),
            ("api_keys.get", lambda: holds(c.api_keys.get(kept["key"])["name"] == "every")),
            ("api_keys.update", lambda: holds(c.api_keys.update(kept["key"], name="each")["name"] == "each")),
            ("api_keys.rotate", lambda: holds(c.api_keys.rotate(kept["key"])["key"])),
            ("api_keys.delete", lambda: c.api_keys.delete(kept["key"])),
            ("sandbox.destroy", lambda: s.destroy()),
            ("sandbox.delete", lambda: s.delete()),
            ("sandboxes.create", lambda: keep("last", c.sandboxes.create("miosa-sandbox"))),
            ("sandboxes.delete", lambda: c.sandboxes.delete(kept["last"].id)),
        ]
        return dict(table)

    def change(self, number):
        self.sandbox.files.write("/workspace/changing", str(number))

    def blink(self, number):
        if number % 5 == 1:
            self.client.sandboxes.create("miosa-sandbox", name="every-blink").destroy()

    def command(self):
        command = self.kept["command"]
        return str(command["pid"] if isinstance(command, dict) else command.pid)

    def write_files(self):
        item = {"path": "/workspace/w", "data": "w"}
        self.sandbox.files.write_files([item])
        holds(self.sandbox.files.read_text("/workspace/w") == "w")

    def send_stdin(self):
        pid = self.kept["job"].pid
        try:
            self.sandbox.commands.send_stdin(pid, "hello\n")
        except NotImplementedError:
            raise Locally from None
        except Exception as error:
            # Later versions refuse by themselves.
            if "stdin" in str(error).lower() and not getattr(error, "status_code", None):
                raise Locally from None
            raise

    def clone(self):
        prepared = self.sandbox.exec.run(
            "set -e; rm -rf /tmp/origin.git /tmp/first; git init -q --bare -b main /tmp/origin.git; "
            "git init -q -b main /tmp/first; cd /tmp/first; echo 1 >f; git add .; "
            "git -c user.email=a@b -c user.name=a commit -qm one; "
            "git push -q /tmp/origin.git main"
        )
        holds(prepared.exit_code == 0, prepared.stderr)
        self.sandbox.git.clone("/tmp/origin.git", path="/workspace/repo")
        changed = self.sandbox.exec.run(
            "cd /workspace/repo; git config user.email a@b; git config user.name a; echo 2 >f"
        )
        holds(changed.exit_code == 0, changed.stderr)

    def git(self, result):
        holds(getattr(result, "exit_code", 0) == 0, result)

    def connect_terminal(self):
        async def look():
            socket = await self.client.ws.connect_terminal(self.sandbox.id)
            await socket.send(b"exit\n")
            await socket.recv()
            await socket.close()

        asyncio.run(look())


class Locally(Exception):
    """The client refuses by itself."""


def methods(name, thing, depth=0):
    """The public methods of an object and of the namespaces in it."""
    for attribute in sorted(dir(thing)):
        if attribute.startswith("_"):
            continue
        value = getattr(thing, attribute, None)
        if inspect.ismethod(value):
            yield f"{name}.{attribute}"
        elif type(value).__module__.startswith("miosa.") and depth < 2:
            if isinstance(value, type) or "ransport" in type(value).__name__:
                continue
            if callable(value):
                yield f"{name}.{attribute}"
            yield from methods(f"{name}.{attribute}", value, depth + 1)


def reason(method):
    fits = [start for start in NOT_OFFERED if method.startswith(start)]
    return NOT_OFFERED[max(fits, key=len)] if fits else None


with Miosa() as client:
    calls = Calls(client)
    there = set(methods("sandbox", calls.sandbox))
    for namespace in NAMESPACES:
        if hasattr(client, namespace):
            there |= set(methods(namespace, getattr(client, namespace)))
    told = {}
    try:
        for method, call in calls.table().items():
            if method not in there:
                continue
            try:
                call()
                told[method] = "works"
            except Locally:
                told[method] = "the client refuses by itself"
            except Exception as error:
                told[method] = f"fails: {type(error).__name__}: {error}"
    finally:
        for left in client.sandboxes.list():
            if left.state != "destroyed":
                client.sandboxes.delete(left.id)
    for method in there - told.keys():
        why = reason(method)
        told[method] = f"not offered: {why}" if why else "fails: nothing was said of it"
    print(json.dumps(told, sort_keys=True, indent=1))
