from __future__ import annotations

import io
import re
from typing import Any

from rich.console import Console

from svid.screen import Lines, Live, screen_for

JOB = {"event": "job", "name": "harbour [red] :boat:", "segments": 3}
AT = {"job": "j1", "segment": 2, "segments": 3}
EVENTS: list[dict[str, Any]] = [
    {"event": "accepted", "file": "a.toml", "job": "j1", "video": "v1"},
    {"event": "started", "job": "j1", "file": "a.toml", "attempt": 2},
    JOB,
    {"event": "segment", "prompt": "a [bold]gull[/bold] lands", "seed": 84, **AT},
    {"event": "stage", "stage": "load_model", **AT},
    {"event": "step", "step": 4, "steps": 8, **AT},
    {"event": "committed", "id": "ab" * 32, "seconds": 1.25, **AT},
    {"event": "crashed", "job": "j1", "detail": "signal 9", "again": True},
]


def shown(terminal: bool) -> tuple[type, str]:
    """What a person sees of the events, and by which screen."""
    out = io.StringIO()
    options = {"width": 120, "emoji": False, "highlight": False, "color_system": None, "_environ": {"TERM": "xterm"}}
    console = Console(file=out, force_terminal=terminal, **options)
    with screen_for(console) as screen:
        for event in EVENTS:
            screen.show(event)
            if isinstance(screen, Live):
                screen.progress.refresh()
    return type(screen), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_off_a_terminal_there_is_a_line_per_event_and_none_per_step() -> None:
    kind, text = shown(terminal=False)
    assert kind is Lines
    lines = text.splitlines()
    assert len(lines) == 5
    assert "a.toml: accepted as job j1 of video v1" in lines[0]
    assert "attempt 2" in lines[1]
    assert "segment 2/3, seed 84: a [bold]gull[/bold] lands" in lines[2]
    assert "segment 2/3 is abababababab, 1.2 s" in lines[3]
    assert "trying again" in lines[4]
    assert "step" not in text


def test_on_a_terminal_a_bar_shows_segment_step_and_time_left() -> None:
    kind, text = shown(terminal=True)
    assert kind is Live
    assert "harbour [red] :boat:" in text, "what a manifest says is never markup"
    assert "loads the model" in text
    assert re.search(r"segment 2/3 +step 4/8 +(\d\d:\d\d|-:--:--|--:--)", text)
