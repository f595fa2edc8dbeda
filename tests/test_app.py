"""The command `python app.py`: its flags. The page itself is tested in tests/ui and tests/e2e."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import app

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--port", "0"], "port 0 does not exist: choose 1 to 65535"),
        (["--port", "65536"], "port 65536 does not exist: choose 1 to 65535"),
        (["--port", "many"], "invalid int value: 'many'"),
        (["--host", "no.such.host.invalid"], "'no.such.host.invalid' is no address of this"),
        (["--host", "192.0.2.1"], "'192.0.2.1' is no address of this computer"),
        (["--bundle", "no-such-bundle"], "there is no bundle 'no-such-bundle'"),
    ],
)
def test_bad_flags_end_with_2_and_one_clear_line(capsys, monkeypatch, flags, sentence):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    with pytest.raises(SystemExit) as stop:
        sys.exit(app.main(flags))  # the parser's own errors are raised, the others returned
    out, error = capsys.readouterr()
    assert stop.value.code == 2 and not out
    assert re.fullmatch(r"error: [^\n]+\n", error) and sentence in error


def test_a_refusal_is_the_processs_only_line_and_its_exit_code():
    """A device is looked at last: by then all is imported, and nothing of that may say a word."""
    command = [sys.executable, "app.py", "--device", "abacus"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and not done.stdout
    assert re.fullmatch(r"error: device 'abacus' cannot be used here[^\n]+\n", done.stderr)


def test_help_names_every_flag():
    text = app.parser().format_help()
    assert all(flag in text for flag in ("--host", "--port", "--bundle", "--device", "--share"))


def test_a_taken_port_gives_the_next_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = app.free_port("127.0.0.1", port)
        assert port < found < port + app.PORTS_TRIED
    assert app.free_port("127.0.0.1", port) == port


def test_no_free_port_is_said(monkeypatch):
    monkeypatch.setattr(app, "PORTS_TRIED", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"no free port from {port} on"):
            app.free_port("127.0.0.1", port)


def test_ctrl_c_while_it_starts_ends_it_quietly():
    started = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline, loaded = time.monotonic() + 120, Path(f"/proc/{started.pid}/maps")
    while "torch" not in loaded.read_text():
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert (started.returncode, said) == (130, b"")


def test_ctrl_c_counts_where_exceptions_are_ignored():
    """As in the callback that Python's imports have, where one was lost once."""
    code = """if True:
    import app, os, signal, weakref
    class Thing: pass
    with app.leaving_at_once():
        thing = Thing()
        lost = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
        del thing
        print("still here")
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_a_container_that_ends_keeps_no_files_of_visitors():
    code = """if True:
    import app, os, signal, sys, time
    from ui.downloads import Folders
    def serve(args):
        app.heed_signals()
        files = Folders()
        print(files.new(), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    app.serve = serve
    sys.exit(app.main([]))
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=300)
    assert (done.returncode, done.stderr) == (130, b"")
    assert not Path(done.stdout.decode().strip()).parent.exists()


def test_ctrl_c_lets_the_last_job_end(monkeypatch):
    waited = []
    monkeypatch.setattr(app.compute, "finish", waited.append)

    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "serve", interrupted)
    assert app.main([]) == 130 and waited == [app.LAST_JOB]


def test_ctrl_c_stops_runs_and_leaves_a_job_that_outlives_it(monkeypatch):
    """Python's own end would cut it off in the middle of torch, which aborts."""
    from ui.downloads import Folders
    from ui.runs import Runs

    left, runs, file = [], Runs(), Folders().new()
    monkeypatch.setattr(app.os, "_exit", left.append)
    monkeypatch.setattr(app.compute, "finish", lambda seconds: False)
    with runs.turn("me", None) as run:
        monkeypatch.setattr(app, "serve", app.stop_runs)
        assert app.main([]) == 130 and left == [130]
        assert run.stop.is_set()
    assert not file.exists()
