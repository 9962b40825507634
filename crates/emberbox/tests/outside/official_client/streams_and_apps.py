"""What a user of the official client streams, shows and deploys, unmodified.

For the oldest and the newest version that is supported: what only one of them
has is asked of that one. MIOSA_BASE_URL and MIOSA_API_KEY say where; the last
line says it went well.
"""

import asyncio
import importlib.metadata
import json
import os
import time
import urllib.error
import urllib.request

from miosa import Miosa
from websockets.sync.client import connect

OLD = importlib.metadata.version("miosa").startswith("1.")
INDEX = "<h1>from the client</h1>"


def fetch(url):
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read().decode()


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def eventually(what, look):
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        time.sleep(0.1)


def exec_stream(sandbox):
    came = []
    for event in sandbox.exec.stream("echo one; sleep 1; echo two >&2; exit 3"):
        came.append((event.type, event.data, time.monotonic()))
    lines = [(kind, data.get("line")) for kind, data, _ in came[:-1]]
    assert lines == [("stdout", "one"), ("stderr", "two")], came
    kind, data, _ = came[-1]
    assert (kind, data["exit_code"]) == ("exit", 3), came
    assert came[1][2] - came[0][2] > 0.5, "both lines came at once"


def background(sandbox):
    process = sandbox.commands.run("read -r line; echo got $line; sleep 600", background=True)
    assert process.pid > 0 and process.status()["status"] == "running", process.status()
    if OLD:
        sandbox.commands.send_stdin(process.pid, "it\n")
    process.kill()
    eventually("the process is killed", lambda: process.status()["status"] == "exited")
    assert process.status()["exit_code"] == 128 + (9 if OLD else 15), process.status()


def processes(sandbox):
    process = sandbox.processes.start("echo $WHO; sleep 600", name="named", env={"WHO": "me"})
    pid = process["pid"]
    stream = sandbox.processes.stream(pid)
    assert next(stream)["line"] == "me"
    assert pid in [other["pid"] for other in sandbox.processes.list()]
    assert sandbox.processes.get(pid)["name"] == "named"
    assert sandbox.processes.logs(pid) == "me\n"
    sandbox.processes.stop(pid)
    assert [event["type"] for event in stream] == ["exit"]
    assert sandbox.processes.get(pid)["status"] == "exited"


def events(sandbox):
    stream = sandbox.events.stream()
    first = next(stream)
    assert first["type"] == "state_changed", first
    assert json.loads(first["data"])["state"] == "running", first
    assert sandbox.exec.run("echo noticed").stdout == "noticed\n"
    second = next(stream)
    assert second["type"] == "exec_output", second
    assert json.loads(second["data"])["data"] == "noticed\n", second
    stream.close()


def app(sandbox):
    sandbox.files.write("/workspace/index.html", INDEX)
    started = sandbox.start_template()
    assert started.data["status"] == "started" and started.data["ready"], started
    assert fetch(started.preview_url) == INDEX
    artifacts = sandbox.get_artifacts()
    assert artifacts.preview["url"] == started.preview_url, artifacts
    assert artifacts.artifacts["paths"] == ["/workspace"], artifacts
    logs = sandbox.logs.get(lines=50)
    assert any("GET / HTTP" in line for line in logs["lines"]), logs
    stream = sandbox.logs.stream()
    event = next(stream)
    assert event.type == "log" and "line" in event.data, event
    stream.close()


def previews(sandbox):
    assert fetch(sandbox.preview.expose(8000)) == INDEX
    preview = sandbox.preview.create(port=8000, name="shown", visibility="private")
    assert preview["id"] in [other["id"] for other in sandbox.preview.list()]
    assert sandbox.preview.get(preview["id"])["name"] == "shown"
    assert status(preview["url"]) == 401
    shared = sandbox.preview.share(preview["id"], ttl_seconds=600)
    assert fetch(shared["share_url"]) == INDEX
    sandbox.preview.revoke_share(preview["id"])
    assert status(shared["share_url"]) == 401
    sandbox.preview.delete(preview["id"])
    assert status(preview["url"]) == 404


def deploy(sandbox):
    deployed = sandbox.deploy(name="client shop")
    assert deployed["state"] == "running" and deployed["deployment_id"], deployed
    assert fetch(deployed["url"]) == INDEX


def until(receive, wanted):
    said = b""
    while wanted not in said:
        piece = receive()
        said += piece if isinstance(piece, bytes) else piece.encode()
    return said


def terminal(sandbox):
    session = sandbox.terminal.create(cols=100, rows=30, cwd="/tmp", env={"WHO": "me"})
    url = f"{session['ws_url']}?session_id={session['session_id']}&token={session['stream_auth']}"
    with connect(url) as socket:
        socket.send(b"echo $WHO in $PWD; stty size\r")
        until(lambda: socket.recv(timeout=30), b"me in /tmp\r\n")
        until(lambda: socket.recv(timeout=30), b"30 100\r\n")
    sandbox.terminal.delete(session["session_id"])


async def socket_with_key(client, sandbox):
    async with await client.ws.connect_terminal(sandbox.id) as socket:
        await socket.send(b"echo $((40+2))-answers\r")
        said = b""
        while b"42-answers\r\n" not in said:
            said += await asyncio.wait_for(socket.recv(), 30)


with Miosa() as client:
    sandbox = client.sandboxes.create("static-html", timeout_sec=3600)
    try:
        assert sandbox.wait_until_ready(), "not ready"
        exec_stream(sandbox)
        background(sandbox)
        events(sandbox)
        app(sandbox)
        previews(sandbox)
        deploy(sandbox)
        terminal(sandbox)
        if not OLD:
            processes(sandbox)
            asyncio.run(socket_with_key(client, sandbox))
    finally:
        sandbox.destroy()

print("all well", os.getpid())
