"""What a user of the official client does, unmodified.

MIOSA_BASE_URL and MIOSA_API_KEY say where; the last line says it went well.
"""

import os

from miosa import Miosa
from miosa.errors import NotFoundError

BINARY = bytes(range(256)) * 4096 + b"\x00\xff"

with Miosa() as client:
    sandbox = client.sandboxes.create("miosa-sandbox", name="python", tags=["py"], timeout_sec=3600)
    try:
        assert sandbox.wait_until_ready(), "not ready"
        assert sandbox.state == "running", sandbox.state
        assert sandbox.boot_path == "snapshot", sandbox.boot_path

        result = sandbox.exec.run("python3 -c 'print(1+1)'")
        assert (result.stdout, result.stderr, result.exit_code) == ("2\n", "", 0), result
        result = sandbox.exec.run("pwd; echo bad >&2; exit 3", {"cwd": "/tmp"})
        assert (result.stdout, result.stderr, result.exit_code) == ("/tmp\n", "bad\n", 3), result
        result = sandbox.exec.run("echo $A", {"env": {"A": "b c"}})
        assert result.stdout == "b c\n", result

        sandbox.files.write("/workspace/text.txt", "grüße\n")
        assert sandbox.files.read_text("/workspace/text.txt") == "grüße\n"
        sandbox.files.write("/workspace/sub dir/binary", BINARY)
        back = sandbox.files.read("/workspace/sub dir/binary")
        assert back == BINARY, f"{len(back)} bytes came back changed"
        sandbox.files.write("/workspace/empty", b"")
        assert sandbox.files.read("/workspace/empty") == b""
        sandbox.files.write("/workspace/data.json", b'{"data": {"content": "x"}}')
        assert sandbox.files.read("/workspace/data.json") == b'{"data": {"content": "x"}}'

        listing = sandbox.files.list("/workspace")
        assert listing["path"] == "/workspace", listing
        names = [entry["name"] for entry in listing["entries"]]
        assert names == ["data.json", "empty", "sub dir", "text.txt"], listing
        stat = sandbox.files.stat("/workspace/sub dir/binary")
        assert stat["size"] == len(BINARY) and stat["is_dir"] is False, stat

        assert sandbox.id in [other.id for other in client.sandboxes.list(tags=["py"])]
        assert client.sandboxes.get(sandbox.id).id == sandbox.id
        assert client.sandboxes.get_by_name("python").id == sandbox.id
    finally:
        sandbox.destroy()
    assert sandbox.state == "destroyed", sandbox.state
    assert client.sandboxes.get(sandbox.id).state == "destroyed"
    try:
        client.sandboxes.get_by_name("python")
        raise AssertionError("a destroyed sandbox still has its name")
    except NotFoundError as error:
        # The oldest version knows no codes.
        assert getattr(error, "code", "NOT_FOUND") == "NOT_FOUND", error
    try:
        client.sandboxes.get("sbx_00000000000000000000000000")
        raise AssertionError("nobody's sandbox was found")
    except NotFoundError as error:
        assert error.request_id, error

print("all well", os.getpid())
