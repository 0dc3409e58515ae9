"""Prompts to embeddings, as Wan does it: UMT5, 512 tokens, zero beyond the prompt's own length."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch

from svid.wan.memory import at_hand
from svid.wan.tokens import TOKENS, clean_prompt

PROMPTS_KEPT = 64


def zero_padded(states: torch.Tensor, length: int) -> torch.Tensor:
    """The first `length` rows of `states` [1, n, D], then zero rows up to 512: [1, 512, D]."""
    padded = states.new_zeros(1, TOKENS, states.shape[-1])
    padded[:, :length] = states[:, :length]
    return padded


class TextEncoder:
    """A tokenizer and a UMT5 encoder that remember the last 64 prompts, so a chain encodes each of its prompts once."""

    def __init__(self, tokenizer: Any, model: Any, keep: int = PROMPTS_KEPT) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._keep = keep
        self._known: OrderedDict[str, torch.Tensor] = OrderedDict()

    def encode(self, prompt: str) -> torch.Tensor:
        """The embedding [1, 512, D] of `prompt` in the encoder's dtype and on its device; longer prompts are cut."""
        text = clean_prompt(prompt)
        if text not in self._known:
            self._known[text] = self._encode(text)
        self._known.move_to_end(text)
        while len(self._known) > self._keep:
            self._known.popitem(last=False)
        return self._known[text]

    @torch.no_grad()
    def _encode(self, text: str) -> torch.Tensor:
        tokens = self._tokenizer(
            text,
            padding="max_length",
            max_length=TOKENS,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        model = at_hand(self._model)
        mask = tokens.attention_mask.to(model.device)
        states = model(tokens.input_ids.to(model.device), mask).last_hidden_state
        return zero_padded(states, int(mask.sum()))
