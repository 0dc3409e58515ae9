"""What the miniature's tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# `mini/` holds scripts and is no package: what they import from each other is found as they find it.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "mini"))

from autoencoder import make_vae
from latents import Encoder, write_shard


@pytest.fixture(autouse=True)
def gradients() -> Iterator[None]:
    """Rendering turns gradients off for its whole process, and another test of this one may have rendered."""
    with torch.enable_grad():
        yield


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """An untrained VAE, for frames of one patch of the experts."""
    return Encoder(make_vae(base=4).eval(), 16, 16)


@pytest.fixture(scope="session")
def folder(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segments as training reads them."""
    path = tmp_path_factory.mktemp("latents")
    for kind, shards, seed in (("plain", 1, 1), ("pro", 1, 1), ("link", 2, 20_000)):  # or links would be plain ones
        for shard in range(shards):
            write_shard(encoder, path, kind, shard, seed)
    return path
