"""Captions to what the experts attend to, differentiable, as the text encoder is trained with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from swift import Text, short_text
from tokenizer import TRAINED_WORDS, write_tokenizer
from transformers import AutoTokenizer

from svid.wan.prompts import NEGATIVE_EN, NEGATIVE_ZH
from svid.wan.tokens import clean_prompt

NOTHING = ("", NEGATIVE_ZH, NEGATIVE_EN)
"""What stands for no prompt: guidance compares with one of these."""


def make_tokenizer(folder: Path) -> Any:
    """The tokenizer of the trained model, written to `folder`."""
    write_tokenizer(folder, TRAINED_WORDS)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


class Prompts:
    """The tokenizer and the text encoder."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self.tokenizer, self.model = tokenizer, model

    def __call__(self, captions: list[str]) -> Text:
        """[B, L, D] where L leaves at least one zero row behind the longest caption."""
        device = self.model.device
        texts = [clean_prompt(caption) for caption in captions]
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=511, return_tensors="pt").to(device)
        states = self.model(tokens.input_ids, tokens.attention_mask).last_hidden_state.float()
        spare = torch.zeros(len(captions), 1, device=device)
        mask = torch.cat([tokens.attention_mask.float(), spare], 1)
        return short_text(torch.cat([states, states.new_zeros(len(captions), 1, states.shape[-1])], 1), mask)
