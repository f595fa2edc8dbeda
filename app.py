"""VQGAN Studio: `python app.py` opens the page in which a picture becomes codes and back."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from ui import compute, downloads, quick

STARTED = time.monotonic()
PORTS_TRIED = 100
LAST_JOB = 3  # seconds that Ctrl+C waits for what is being computed
LEFT = 130  # what shells say of Ctrl+C


def fail(message: object) -> int:
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    return 2


class Parser(argparse.ArgumentParser):
    """One line for a bad flag, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(fail(f"{message} (see python {self.prog} --help)"))


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="app.py", description=__doc__)
    p.add_argument("--host", help="address to listen on (127.0.0.1; 0.0.0.0 on Spaces)")
    p.add_argument("--port", type=int, default=7860, help="the next free one if taken (7860)")
    p.add_argument("--bundle", help="name of a bundle in checkpoints/, or a folder (emoji-128)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    p.add_argument("--share", action="store_true", help="also open a public link through Gradio")
    return p


def free_port(host: str, first: int) -> int:
    """The first port from `first` on that nothing listens on."""
    if not 1 <= first <= 65535:
        raise ValueError(f"port {first} does not exist: choose 1 to 65535")
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except PermissionError:
                raise ValueError(f"port {port} needs more rights: choose 1024 or above") from None
            except socket.gaierror:
                raise ValueError(f"host {host!r} is no address of this computer") from None
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise ValueError(f"host {host!r} is no address of this computer") from None
                continue
            return port
    raise ValueError(f"no free port from {first} on: choose another one")


def on_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space, which lends a GPU for the length of one call."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def report_to_zero_gpu() -> None:
    """Declare a function for the GPU, as else such a Space is taken for one that failed to start.

    Nothing calls it: waiting for a GPU would take longer than most of what the app computes.
    """
    try:
        import spaces
    except ImportError:  # not on the platform itself, which installs it
        print("warning: no package `spaces` here, so this is no ZeroGPU Space", file=sys.stderr)
        return
    spaces.GPU(lambda: None)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Ctrl+C inside ends the process there and then: there is no work yet that could be lost.

    As an exception it might be raised in a callback of Python's imports, which ignores it.
    """
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(LEFT))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        return serve(args)
    except KeyboardInterrupt:
        return LEFT
    finally:
        if compute.finish(LAST_JOB) is False:  # cut off, torch would abort with a core dump
            downloads.clear()
            sys.stdout.flush()
            os._exit(LEFT)


def stop_runs(*_: object) -> NoReturn:
    """The end while the page is up: runs end after their present step, then the server closes."""
    from ui import runs

    runs.stop_all()
    raise KeyboardInterrupt


def heed_signals() -> None:
    """Ctrl+C, and what ends containers and services: visitors' files are deleted before the end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # a job may ignore it
            signal.signal(number, stop_runs)


def serve(args: argparse.Namespace) -> int:
    """Load, build, launch, and stay until Ctrl+C."""
    host = args.host or ("0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1")
    try:
        port = free_port(host, args.port)
    except ValueError as error:
        return fail(error)
    sys.meta_path.insert(0, quick.QuickGradio())
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before Gradio is imported
    with leaving_at_once(), quick.collecting_later():
        import checkpoints
        from training.device import usable_device
        from ui import page
        from ui.studio import Studio

        if on_zero_gpu():
            report_to_zero_gpu()
            args.device = "cpu"  # from now on torch says that there is a GPU, but only in its calls
        try:
            device = usable_device(args.device)
            bundle = compute.run(checkpoints.load, args.bundle or checkpoints.DEFAULT, device)
            studio = Studio(bundle, compute.run(checkpoints.metric, device), device)
        except ValueError as error:
            return fail(error)
        app = compute.run(page.build, studio)
        _, url, shared = app.launch(
            server_name=host,
            server_port=port,
            share=args.share,
            prevent_thread_lock=True,
            **page.launch_options(),
        )
    if port != args.port:
        print(f"port {args.port} is taken, so this is port {port}")
    print(f"VQGAN Studio with {bundle.name}: {shared or url} ", end="")
    print(f"(ready after {time.monotonic() - STARTED:.1f} s)", flush=True)
    page.warm_up(studio)
    heed_signals()
    app.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
