"""Prompts: cleaned, padded with zeros to 512, encoded once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from svid.wan.text import TextEncoder, clean_prompt


class Model:
    device = torch.device("cpu")

    def __init__(self):
        self.calls = 0

    def __call__(self, ids, mask):
        self.calls += 1
        return SimpleNamespace(last_hidden_state=ids[..., None].float().expand(*ids.shape, 8) + 1)


def tokenizer(text, max_length, **options):
    assert options["truncation"]
    ids = [*[ord(letter) for letter in text][: max_length - 1], 1]
    row = ids + [0] * (max_length - len(ids))
    mask = [1] * len(ids) + [0] * (max_length - len(ids))
    return SimpleNamespace(input_ids=torch.tensor([row]), attention_mask=torch.tensor([mask]))


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  a\tboat \n rests ", "a boat rests"),
        ("fish &amp;amp; chips", "fish & chips"),
        ("cafÃ©", "café"),
        ("色调艳丽　过曝", "色调艳丽 过曝"),
        ("", ""),
    ],
)
def test_cleaning(raw, clean):
    assert clean_prompt(raw) == clean


def test_zero_beyond_the_length():
    embedding = TextEncoder(tokenizer, Model()).encode("boat")
    assert embedding.shape == (1, 512, 8)
    assert embedding[:, :5].ne(0).all()
    assert embedding[:, 5:].eq(0).all()
    assert TextEncoder(tokenizer, Model()).encode("x" * 600).ne(0).all()


def test_a_prompt_is_encoded_once_and_forgotten_at_last():
    model = Model()
    text = TextEncoder(tokenizer, model, keep=2)
    for prompt in ("a", " a ", "b", "a", "b"):
        text.encode(prompt)
    assert model.calls == 2
    for prompt in ("c", "b", "a"):
        text.encode(prompt)
    assert model.calls == 4
