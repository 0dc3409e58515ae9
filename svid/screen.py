"""What a person sees while the daemon works: a live bar on a terminal, one line an event elsewhere. All on stderr."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from svid.logs import as_line, note


@contextmanager
def screen_for(console: Console | None = None, *, as_json: bool = False) -> Iterator[Lines]:
    """The screen for where stderr goes."""
    if as_json:
        yield JsonScreen(console or Console(stderr=True))
        return
    console = console or Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("segment {task.fields[segment]}/{task.fields[segments]}"),
        TextColumn("{task.fields[doing]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Live(console, progress)


class Lines:
    """One line an event; steps are left out, so that a log stays short."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = 0.0

    def show(self, event: dict[str, Any]) -> None:
        """Show one event of the daemon or of its render process."""
        describe = getattr(self, f"_{event['event'].replace('-', '_')}", None)
        if describe is not None:
            with contextlib.suppress(OSError):  # a log on a full disk, a reader that is gone: the work goes on
                describe(event)

    def say(self, text: str, style: str = "") -> None:
        """One line. What comes from manifests is shown as it is, never as markup."""
        self.console.print(f"{time.strftime('%H:%M:%S')} {escape(text)}", style=style)

    def _up(self, event: dict[str, Any]) -> None:
        rest = "until the inbox is empty" if event["once"] else "Ctrl-C ends"
        self.say(f"watching {event['home']}/watch/inbox, {rest}")

    def _accepted(self, event: dict[str, Any]) -> None:
        self.say(f"{event['file']}: accepted as job {event['job']} of video {event['video']}")

    def _waits(self, event: dict[str, Any]) -> None:
        how = "missing or damaged so far" if event["lacking"] else "still being written"
        self.say(f"{event['file']}: waits for {', '.join(event['for'])}: {how}", "yellow")

    def _renewed(self, event: dict[str, Any]) -> None:
        self.say(f"read again: {', '.join(event['changed'])}", "green")

    def _not_renewed(self, event: dict[str, Any]) -> None:
        self.say(f"{', '.join(event['changed'])}: has changed and can't be used; what was read before holds", "red")
        self._errors(event["errors"])

    def _refused(self, event: dict[str, Any]) -> None:
        self.say(f"{event['file']}: refused, see watch/failed/{event['folder']}", "red")
        self._errors(event["errors"])

    def _errors(self, errors: list[dict[str, str]]) -> None:
        for error in errors or []:
            hint = f" ({error['hint']})" if error["hint"] else ""
            where = ": ".join(part for part in (error["file"], error["where"]) if part)
            self.say(f"  {where}: {error['message']}{hint}", "red")

    def _started(self, event: dict[str, Any]) -> None:
        self._began = time.monotonic()
        again = f", attempt {event['attempt']}" if event["attempt"] > 1 else ""
        self.say(f"{event['job']}: started ({event['file']}{again})")

    def _ready(self, event: dict[str, Any]) -> None:
        self.say(f"rendering on {event['device']} in {event['dtype']} ({event['why']})")

    def _segment(self, event: dict[str, Any]) -> None:
        self.say(f"{event['job']}: {_of(event)}, seed {event['seed']}: {_short(event['prompt'])}")

    def _resumed(self, event: dict[str, Any]) -> None:
        self.say(f"{event['job']}: {_of(event)} goes on after step {event['after']} of {event['of']}")

    def _committed(self, event: dict[str, Any]) -> None:
        self.say(f"{event['job']}: {_of(event)} is {event['id'][:12]}, {event['seconds']:.1f} s")

    def _encoding(self, event: dict[str, Any]) -> None:
        self.say(f"{event['job']}: segment {event['index'] + 1} of the video is encoded once more")

    def _reused(self, event: dict[str, Any]) -> None:
        self.say(f"{event['job']}: {_of(event)} was rendered before: {event['id'][:12]}")

    def _done(self, event: dict[str, Any]) -> None:
        self.say(
            f"{event['job']}: done in {time.monotonic() - self._began:.1f} s, see watch/done/{event['job']}", "green"
        )

    def _failed(self, event: dict[str, Any]) -> None:
        self.say(f"{event['job']}: failed, see watch/failed/{event['job']}", "red")
        self._errors(event["errors"])

    def _crashed(self, event: dict[str, Any]) -> None:
        rest = "trying again" if event["again"] else "giving up"
        self.say(f"{event['job']}: the render process died: {event['detail']}; {rest}", "yellow")

    def _out_of_memory(self, event: dict[str, Any]) -> None:
        rest = f"trying again as {event['next']}" if event["next"] else "giving up"
        plan = event["memory"] or "any memory plan"
        self.say(f"{event['job']}: out of memory with {event['model']} as {plan}: {event['detail']}; {rest}", "yellow")

    def _recovered(self, event: dict[str, Any]) -> None:
        self.say(f"{event['job']}: nobody is at it any more, taking it over")

    def _lost(self, event: dict[str, Any]) -> None:
        self.say(f"{event['job']}: attempt {event['attempt']} was taken over; what it still had is dropped", "yellow")

    def _paused(self, event: dict[str, Any]) -> None:
        self.say("paused: no job is started until svid resume" if event["paused"] else "goes on", "yellow")

    def _draining(self, event: dict[str, Any]) -> None:
        self.say("draining: ends after the job in hand", "yellow")

    def _halted(self, event: dict[str, Any]) -> None:
        again = f"; looking again in {event['pause']:.0f} s" if event["pause"] >= 1 else ""
        self.say(f"taking no work: {event['reason']}{again}", "red")

    def _put_off(self, event: dict[str, Any]) -> None:
        self.say(f"{event['what']}: put off, because of {event['reason']}", "red")

    def _recovered_disk(self, event: dict[str, Any]) -> None:
        self.say("taking work again", "green")

    def _stopping(self, event: dict[str, Any]) -> None:
        when = {
            "segment": "after this segment; once more: at the next step",
            "step": f"at the next step, waiting for {event['waits']}; once more: at once",
            "now": "at once",
        }
        self.say(f"{event['job']}: stopping {when[event['when']]}", "yellow")

    def _stopped(self, event: dict[str, Any]) -> None:
        self.say(f"{event['job']}: stopped, goes on with the next svid up")


class JsonScreen(Lines):
    """Every event as one JSON object a line, steps left out."""

    def show(self, event: dict[str, Any]) -> None:
        """Show one event of the daemon or of its render process."""
        note(event)
        if event["event"] != "step":
            with contextlib.suppress(OSError):
                self.console.file.write(as_line({"level": "info", **event}) + "\n")
                self.console.file.flush()


class Live(Lines):
    """The same lines above a bar that shows segment, step and time left of the job in hand."""

    def __init__(self, console: Console, progress: Progress) -> None:
        super().__init__(console)
        self.progress = progress
        self._task: TaskID | None = None

    def show(self, event: dict[str, Any]) -> None:
        """Show one event, moving the bar."""
        kind = event["event"]
        if kind == "job":
            self._drop()
            fields = {"segment": 0, "segments": event["segments"], "doing": "begins"}
            name = _short(event["name"], 30)
            self._task = self.progress.add_task(name, total=event["segments"] or None, **fields)
        elif kind in ("stage", "step", "committed", "reused", "joining") and self._task is not None:
            self._move(self._task, event)
        elif kind in ("done", "failed", "crashed", "stopped", "out-of-memory"):
            self._drop()
        super().show(event)

    def _move(self, task: TaskID, event: dict[str, Any]) -> None:
        if event["event"] == "joining":
            self.progress.update(task, doing="joins the video")
            return
        share = _share(event)
        doing = f"step {event['step']}/{event['steps']}" if "step" in event else DOING.get(event.get("stage", ""), "")
        fields = {"segment": event["segment"], "segments": event["segments"], "doing": doing}
        done = None if share is None else event["segment"] - 1 + share
        self.progress.update(task, completed=done, **fields)

    def _drop(self) -> None:
        if self._task is not None:
            self.progress.remove_task(self._task)
            self._task = None


SAMPLED = 0.9
"""The share of a segment that is denoising, as far as the bar is concerned."""

DOING = {
    "load_model": "loads the model",
    "build_conditioning": "conditioning",
    "apply_loras": "LoRAs",
    "sample": "sampling",
    "decode": "decodes",
    "encode": "decodes and encodes",
}


def _share(event: dict[str, Any]) -> float | None:
    """How much of its segment is done; None where the event does not say."""
    if event["event"] in ("committed", "reused"):
        return 1.0
    return float(event["step"] / event["steps"] * SAMPLED) if "step" in event else None


def _of(event: dict[str, Any]) -> str:
    return f"segment {event['segment']}/{event['segments']}"


def _short(text: str, most: int = 70) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
