"""Prompts: cleaned, padded with zeros to 512, encoded once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer

import svid
from svid.wan import load
from svid.wan.text import TextEncoder
from svid.wan.tokens import clean_prompt, too_long


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


def test_only_prompts_that_may_be_too_long_are_counted(tmp_path):
    assert too_long("a boat " * 1000, tmp_path) == 0, "there is no tokenizer to ask"
    model = Path(svid.__file__).parent / "embedded/wan22-mini"
    assert too_long("a red star", model) == 0
    assert too_long("a red star " * 200, model) > 512
    assert too_long("a" * 600, model) > 512, "bytes, for what is no word"


def test_a_tokenizer_is_what_its_file_says(tmp_path):
    """Wan's configuration names a class that transformers 5 would build anew, without the file's bytes."""
    model = Path(svid.__file__).parent / "embedded/wan22-mini"
    shutil.copytree(model / "tokenizer", tmp_path / "tokenizer")
    config = tmp_path / "tokenizer/tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tokenizer_class": "T5Tokenizer"}))
    text = "a red star, a boat and a fox 🦊"
    whole = Tokenizer.from_file(str(model / "tokenizer/tokenizer.json")).encode(text).ids
    assert load._load_tokenizer(tmp_path)(text).input_ids == whole


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
