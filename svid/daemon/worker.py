"""The render process: does one job after another, keeping the model warm. Whatever happens in here - a raise, a leak, a
segmentation fault - costs the daemon one attempt at one job."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from svid.daemon.wire import Wire
from svid.errors import Cancelled, Problem, Refused, SvidError
from svid.home import Home
from svid.render.watch import Watch

log = logging.getLogger("svid.worker")

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """`python -m svid.daemon.worker HOME FD PARENT`: run by the daemon, never by people."""
    root, handle, parent = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    _die_with(parent)
    # The daemon decides what a signal means and says so over the wire; a terminal sends them to the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    wire = Wire(socket.socket(fileno=handle))
    try:
        serve(Home(root), wire)
    except BrokenPipeError:
        return 1
    return 0


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the daemon dies, where the kernel can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it died before we asked


def serve(home: Home, wire: Wire) -> None:
    """Answer the daemon's messages until it hangs up."""
    from svid.home import bundled_dir
    from svid.plugin.manager import Plugins
    from svid.render.env import peak_memory_mib, prepare_torch
    from svid.render.job import render_job
    from svid.render.studio import Studio
    from svid.store.engine import open_store

    prepare_torch()
    plugins = Plugins.load(bundled_dir() / "plugins", home.plugins)
    store = open_store(home.database, bundled_dir() / "db" / "migrations")
    studio = Studio(home, store, plugins)

    def tell(event: Any) -> None:
        wire.send(event)
        plugins.emit(event)

    watch = Watch(tell)
    orders = _listen(wire, watch)
    wire.send({"event": "ready", "device": studio.device, "why": studio.device_reason, "dtype": studio.dtype})
    while (order := orders.get()) is not None:
        outcome = _try(lambda order=order: render_job(studio, order["job"], order["attempt"], watch))
        gc.collect()
        wire.send(
            {**outcome, "event": "outcome", "job": order["job"], "attempt": order["attempt"], "rss": peak_memory_mib()}
        )
        if outcome["outcome"] == "out of memory":
            return  # a fresh process has all of its memory again


def _listen(wire: Wire, watch: Watch) -> SimpleQueue[dict[str, Any] | None]:
    """Receive in a thread, because `stop` must be heard while a job is being rendered."""
    orders: SimpleQueue[dict[str, Any] | None] = SimpleQueue()

    def listen() -> None:
        for message in wire.messages():
            if message["do"] == "render":
                orders.put(message)
            elif message["do"] == "stop":
                watch.stop_after_segment = True
            elif message["do"] == "cancel":
                watch.stop_now = True
            elif message["do"] == "quit":
                break
        else:
            os._exit(1)  # the daemon is gone: nothing may be written any more
        orders.put(None)

    threading.Thread(target=listen, daemon=True).start()
    return orders


def _try(work: Any) -> dict[str, Any]:
    """Do a job and say how it ended."""
    try:
        work()
    except Cancelled:
        return {"outcome": "stopped"}
    except Refused as error:
        log.info("job refused: %s", error, exc_info=error.__cause__)
        if _out_of_memory(error):
            return {"outcome": "out of memory", "detail": str(error)}
        return {"outcome": "failed", "errors": [problem.as_dict() for problem in error.problems]}
    except SvidError as error:
        log.error("job failed", exc_info=error)
        return {"outcome": "failed", "errors": [problem.as_dict() for problem in error.problems]}
    except MemoryError as error:
        return {"outcome": "out of memory", "detail": str(error) or "MemoryError"}
    except Exception as error:  # a fault of svid's own must not cost more than this job either
        log.exception("job failed in an unforeseen way")
        problem = Problem("svid", type(error).__name__, str(error), "this is a fault of svid: please report it")
        return {"outcome": "failed", "errors": [problem.as_dict()]}
    return {"outcome": "done"}


def _out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        error = error.__cause__
    return False


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
