"""The image encoder: the authors' preprocessing, and diffusers' layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionModel

import svid
from svid.wan.image import ImageEncoder

FOLDER = Path(svid.__file__).parent / "embedded/wan21-mini/image_encoder"


@pytest.fixture(scope="module")
def clip():
    return CLIPVisionModel.from_pretrained(FOLDER, dtype=torch.float32).eval()


class Seen:
    """A model that notes what it is shown."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, clip):
        self.clip, self.config, self.values = clip, clip.config, None

    def __call__(self, values, **more):
        self.values = values
        return self.clip(values, **more)


def test_the_whole_picture_is_stretched_and_normalized(clip):
    picture = torch.zeros(48, 96, 3, dtype=torch.uint8)
    picture[:, :8] = 255  # a crop of the middle would lose it
    seen = Seen(clip)
    ImageEncoder(seen, {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}).embed(picture)
    assert seen.values.shape == (1, 3, 224, 224)
    assert seen.values[..., :10].gt(0.9).all()
    assert seen.values[..., -100:].lt(-0.999).all()


def test_a_square_that_fits_is_only_normalized(clip):
    picture = torch.randint(0, 256, (224, 224, 3), dtype=torch.uint8)
    seen = Seen(clip)
    ImageEncoder(seen, {}).embed(picture)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    expected = ((picture.float() / 255 - mean) / std).permute(2, 0, 1)[None]
    torch.testing.assert_close(seen.values, expected, atol=1e-5, rtol=0)


def test_it_is_the_last_but_one_layer(clip):
    picture = torch.randint(0, 256, (224, 224, 3), dtype=torch.uint8)
    seen = Seen(clip)
    embeds = ImageEncoder(seen, {}).embed(picture)
    with torch.no_grad():
        hidden = clip(seen.values, output_hidden_states=True).hidden_states
    assert embeds.shape == (1, 257, 32)
    assert torch.equal(embeds, hidden[-2])
    assert not torch.equal(embeds, hidden[-1])
