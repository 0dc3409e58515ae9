"""Prompts as the tokenizer sees them. Imports no torch, so that a manifest can be checked at once."""

from __future__ import annotations

import html
from pathlib import Path

import ftfy

TOKENS = 512
"""What Wan's text encoder is given of a prompt; the authors' code cuts off the rest (WAN22 wan/configs)."""


def clean_prompt(text: str) -> str:
    """Mend broken encodings, undo HTML entities (some are escaped twice), fold whitespace.

    Source: WAN22 wan/modules/tokenizers.py, clean="whitespace".
    """
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def too_long(prompt: str, model: Path) -> int:
    """How many tokens the tokenizer of a model folder makes of a prompt, where that is more than TOKENS; else 0. The
    file is read only for prompts that may be so long: no token is shorter than a byte."""
    text, file = clean_prompt(prompt), model / "tokenizer" / "tokenizer.json"
    if len(text.encode()) < TOKENS or not file.is_file():
        return 0
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    found = len(tokenizer.encode(text).ids)
    return found if found > TOKENS else 0
