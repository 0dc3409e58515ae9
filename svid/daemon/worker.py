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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from svid import logs
from svid.daemon.halt import trouble
from svid.daemon.wire import Wire
from svid.errors import Cancelled, Problem, Refused, StageError, SvidError, UsageError
from svid.home import Home
from svid.memory import ran_out
from svid.plugin.blame import said
from svid.render.watch import Watch
from svid.store.disk import fault_of_one, met_a_file, storage_problem
from svid.store.engine import Store
from svid.store.queue import Fenced
from svid.store.scratch import sweep_own

if TYPE_CHECKING:
    from svid.plugin.manager import Plugins

log = logging.getLogger("svid.worker")

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """`python -m svid.daemon.worker HOME FD PARENT`: run by the daemon, never by people."""
    root, handle, parent = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    _die_with(parent)
    # The daemon decides what a signal means and says so over the wire; a terminal sends them to the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.set_inheritable(handle, False)  # a program that a plugin starts is not to keep the wire open
    home, wire = Home(root), Wire(socket.socket(fileno=handle))
    logs.configure(logging.INFO, as_json=_logs_json(home), stream=sys.stderr)
    try:
        serve(home, wire)
    except BrokenPipeError:
        return 1
    except Exception as error:
        problem = storage_problem(error)
        if problem is None and not ran_out(error):
            raise
        starved = {"outcome": "out of memory", "detail": said(error)}
        how = {"outcome": "storage", "problem": problem.as_dict()} if problem is not None else starved
        wire.send({"event": "outcome", **how})
    return 0


def _logs_json(home: Home) -> bool:
    """Whether svid.toml wants JSON; one that was broken since the daemon began is `serve`'s to answer."""
    try:
        return home.config.daemon.log == "json"
    except UsageError:
        return False


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the daemon dies, where the kernel can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it died before we asked


def serve(home: Home, wire: Wire) -> None:
    """Answer the daemon's messages until it hangs up."""
    # All of what comes now stays. Looking it through again and again, as more comes, is a quarter of the time to start.
    gc.disable()
    from svid.home import bundled_dir
    from svid.plugin.manager import Plugins
    from svid.render.env import peak_memory_mib, prepare_torch
    from svid.render.job import render_job
    from svid.render.studio import Studio
    from svid.store.homes import open_home

    prepare_torch()
    try:
        plugins = Plugins.load(bundled_dir() / "plugins", home.plugins)
        store = open_home(home, bundled_dir() / "db" / "migrations")
        studio = Studio(home, store, plugins)
    except UsageError as error:  # a plugin or svid.toml that was changed since the daemon began
        _decline(wire, error)
        return
    gc.freeze()
    gc.enable()

    def tell(event: Any) -> None:
        logs.note(event)
        wire.send(event)
        plugins.emit(event)

    watch = Watch(tell)
    orders = _listen(wire, watch)
    wire.send({"event": "ready", "device": studio.device, "why": studio.device_reason, "dtype": studio.dtype})
    while (order := orders.get()) is not None:
        logs.note({"job": order["job"], "attempt": order["attempt"]})
        watch.begin()
        studio.plans = order["plans"]

        def work(job: str = order["job"], attempt: int = order["attempt"]) -> None:
            render_job(studio, job, attempt, watch)

        outcome = _try(lambda work=work: _blaming(work, plugins, watch), home, store)
        gc.collect()
        sweep_own(home.tmp)
        wire.send(
            {**outcome, "event": "outcome", "job": order["job"], "attempt": order["attempt"], "rss": peak_memory_mib()}
        )
        if outcome["outcome"] == "out of memory":
            return  # a fresh process has all of its memory again


def _decline(wire: Wire, error: SvidError) -> None:
    """Fail the job that this process was started for, and end: the next one gets a fresh process."""
    order = next((message for message in wire.messages() if message["do"] == "render"), None)
    if order is not None:
        errors = [problem.as_dict() for problem in error.problems]
        job = {"job": order["job"], "attempt": order["attempt"]}
        wire.send({"event": "outcome", "outcome": "failed", "errors": errors, **job})


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


def _blaming(work: Callable[[], None], plugins: Plugins, watch: Watch) -> None:
    """Do a job. Raises StageError for whatever comes out of a plugin's code that no stage has caught, and where a
    plugin says that the work was stopped although nobody has done so: the job would be begun again, for ever."""
    try:
        work()
    except Cancelled as error:
        if watch.told:
            raise
        found = plugins.culprit(error) or Problem("plugins", "", "a plugin raised Cancelled")
        raise StageError(replace(found, message=f"{found.message}; but nobody has stopped this job")) from error
    except SvidError:
        raise
    except BaseException as error:
        culprit = plugins.culprit(error)
        if culprit is None:
            raise
        raise StageError(culprit) from error


def _try(work: Any, home: Home, store: Store) -> dict[str, Any]:
    """Do a job and say how it ended."""
    try:
        work()
    except Cancelled:
        return {"outcome": "stopped"}
    except Fenced:
        return {"outcome": "lost"}
    except BaseException as error:  # also what a plugin raises to end the process
        return (_storage(error, home, store) if met_a_file(error) else None) or _failure(error)
    return {"outcome": "done"}


def _storage(error: BaseException, home: Home, store: Store) -> dict[str, Any] | None:
    """What an exception with a file behind it means for the job; None where no disk is to blame. An exception does not
    tell a broken disk from one broken file, or from a full one of a plugin's, so the home's own folders are tried."""
    broken, one = trouble(home, store), fault_of_one(error, (home.db, home.watch))
    problem = broken or (None if one else storage_problem(error))
    if problem is not None:
        log.warning("the disk does not let the job go on: %s", problem, exc_info=error)
        return {"outcome": "storage", "problem": problem.as_dict()}
    if one is None:
        return None
    log.error("the job needs a file that its disk fails under", exc_info=error)
    return {"outcome": "failed", "errors": [one.as_dict()]}


def _failure(error: BaseException) -> dict[str, Any]:
    """What an exception that is not the disk's fault means for the job."""
    if ran_out(error):
        log.warning("out of memory", exc_info=error)
        return {"outcome": "out of memory", "detail": said(error.__cause__ or error)}
    if isinstance(error, Refused):
        log.info("job refused: %s", error, exc_info=error.__cause__)
    elif isinstance(error, SvidError):
        log.error("job failed", exc_info=error)
    else:  # a fault of svid's own must not cost more than this job either
        log.error("job failed in an unforeseen way", exc_info=error)
        problem = Problem("svid", type(error).__name__, str(error), "this is a fault of svid: please report it")
        return {"outcome": "failed", "errors": [problem.as_dict()]}
    return {"outcome": "failed", "errors": [problem.as_dict() for problem in error.problems]}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
