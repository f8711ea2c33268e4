"""A disk that is full, read-only or fails now and then, and torn files: confirmed turns stay, and calls go on."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dialgraph.project import ROOT
from tests.server.test_settings import run
from tests.support.accounts import PASSWORD, form
from tests.support.server_process import Server
from tests.support.upstream import upstream
from tests.whole.test_kills import check, check_places, rows_of


def told_until_killed(folder: Path, lines: int, under: tuple[str, ...] = ()) -> list[str]:
    """Run a process that stores turns, and kill it after this many lines of output. Return the lines."""
    command = [*under, sys.executable, "-m", "tests.support.storing", str(folder)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, process_group=0
    )
    assert process.stdout is not None
    told: list[str] = []
    while len(told) < lines and (line := process.stdout.readline()):
        told += [line.strip()] if line.startswith(("begun", "told")) else []
    os.killpg(process.pid, signal.SIGKILL)  # also strace or unshare, if the process runs under one
    told += [line.strip() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    process.stdout.close()
    process.wait()
    return told


@pytest.mark.long
@pytest.mark.parametrize("damage", ["no -shm", "half a WAL", "a flipped WAL"])
def test_a_torn_journal_loses_at_most_its_end(damage: str, tmp_path: Path) -> None:
    lines = told_until_killed(tmp_path, 60)
    wal = tmp_path / "dialgraph.db-wal"
    whole = wal.read_bytes()
    assert len(whole) > 50_000
    dice = random.Random(damage)
    match damage:
        case "no -shm":
            (tmp_path / "dialgraph.db-shm").unlink()
        case "half a WAL":
            wal.write_bytes(whole[: dice.randrange(len(whole))])
        case _:
            at = dice.randrange(1000, len(whole))
            wal.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    if damage == "no -shm":
        assert check(tmp_path, lines) > 0, "no confirmed turn is lost"
    else:
        check_places(rows_of(tmp_path))  # the database holds the first turns, and they are whole
    listed = run("user", "list", DIALGRAPH_DATA_DIR=str(tmp_path))
    assert (listed.returncode, listed.stdout) in ((0, "ann\n"), (0, "")), listed.stderr
    assert not listed.stderr


def in_a_namespace(script: str) -> tuple[str, ...]:
    """Return a command prefix that runs a shell script first. Only the command sees what the script mounts."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False).returncode:
        pytest.skip("this machine does not allow mount namespaces")
    return unshare, "-rm", "sh", "-c", f'{script} && exec "$@"', "sh"


@pytest.mark.long
@pytest.mark.parametrize(
    ("what", "sentence"), [("", "cannot be written"), ("dialgraph.db", "'dialgraph.db' cannot be written")]
)
def test_a_read_only_disk_stops_the_start(what: str, sentence: str, tmp_path: Path) -> None:
    made = run("user", "create", "ann", given="correct horse battery\n", DIALGRAPH_DATA_DIR=str(tmp_path))
    assert made.returncode == 0, made.stderr
    place = tmp_path / what
    under = in_a_namespace(f"mount --bind {place} {place} && mount -o remount,bind,ro {place}")
    for arguments in (["user", "password", "ann"], ["serve", "--port", "0"]):
        stopped = subprocess.run(
            [*under, sys.executable, "-m", "server.cli", *arguments], input="another password\n", text=True,
            env={**os.environ, "DIALGRAPH_DATA_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}, capture_output=True,
            check=False,
        )  # fmt: skip
        assert stopped.returncode == 1 and not stopped.stdout
        assert stopped.stderr.startswith("dialgraph: The da") and sentence in stopped.stderr, stopped.stderr
        assert len(stopped.stderr.splitlines()) == 1


@pytest.mark.long
async def test_a_full_temporary_folder_refuses_files_and_lets_calls_go_on(tmp_path: Path) -> None:
    data, small = tmp_path / "data", tmp_path / "small"
    data.mkdir()
    small.mkdir()
    async with upstream() as up:
        server = Server(
            data, up.url, errors=tmp_path / "log", under=in_a_namespace(f"mount -t tmpfs -o size=200k none {small}")
        )
        server.more(TMPDIR=str(small))
        await server.start()
        credentials = {"name": "ann", "password": PASSWORD}
        await server.ask("POST", "/v1/users", credentials)
        token = json.loads((await server.ask("POST", "/v1/sessions", credentials))[1])["access_token"]
        base = json.loads((await server.ask("POST", "/api/rag/kb/create", {"kb_name": "Law"}, token))[1])["kb_id"]
        for size, wanted in ((3_000_000, 507), (10_000, 200), (3_000_000, 507)):
            file, kind = form({"kb_id": base}, f"{size}.md", b"# Zebras\n\n" + b"They are striped. " * (size // 18))
            status, body = await server.ask("POST", "/api/rag/doc/upload", file, token, kind)
            assert status == wanted, body
            question = {"messages": [{"role": "user", "content": "hi"}]}
            status, body = await server.ask("POST", "/chat/completions", question)
            assert status == 200 and b"Hello there." in body
        await server.kill()


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["fsync,fdatasync:error=EIO:when=40+5", "pwrite64:error=EIO:when=400+50"])
def test_a_disk_that_fails_now_and_then_loses_no_confirmed_turn(fault: str, tmp_path: Path) -> None:
    lines = told_until_killed(tmp_path, 400, strace(fault, tmp_path / "trace"))
    assert (tmp_path / "trace").read_text().count("INJECTED") > 20
    assert check(tmp_path, lines) > 100


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_failed_nth_write_loses_no_confirmed_turn(tmp_path: Path) -> None:
    """Fail the nth write of a new database, where it stops the migrations, and of a database in use."""
    used = tmp_path / "used"
    used.mkdir()
    before = told_until_killed(used, 30)
    told = 0
    for number in range(1, 101):
        for name in ("new", "used"):
            folder = tmp_path / f"{name}-{number}"
            if name == "used":
                shutil.copytree(used, folder)
            else:
                folder.mkdir()
            lines = told_until_killed(folder, 12, strace(f"pwrite64:error=EIO:when={number}", folder / "trace"))
            if name == "used" or lines:
                told += check(folder, [*(before if name == "used" else []), *lines])
            elif (folder / "dialgraph.db").exists():
                again = told_until_killed(folder, 6)
                assert check(folder, again) > 0, "the next start works after a failed one"
            shutil.rmtree(folder)
    assert told > 1000


def strace(fault: str, trace: Path) -> tuple[str, ...]:
    """Return a command prefix that makes system calls of the command fail as `fault` says."""
    binary = shutil.which("strace")
    assert binary, "strace is missing: `make soak` installs it on Debian and Ubuntu"
    calls = fault.partition(":")[0]
    return binary, "-f", "-qq", "-o", str(trace), "-e", f"trace={calls}", "-e", f"inject={fault}"
