from itertools import pairwise

import pytest
import torch
from chain import I2V, LATENTS, PRO, SVI20, Way, conditions, held_out_streams, start_pixels
from draw import draw
from latents import SETTLED
from measure import drift_of, measure

from svid.layout import Layout
from svid.wan.vae import encode_normalized


def test_conditions_are_those_of_a_whole_segment_by_diffusers(encoder):
    (stream,) = held_out_streams(1, 2, 1.0, 3)
    start = start_pixels(encoder, [stream])
    video = torch.zeros(1, 3, 81, encoder.height, encoder.width)
    video[:, :, :1] = start
    expected = encode_normalized(encoder.vae, video)
    found = conditions(I2V, encoder, start, start, None)
    assert found.shape[2] == LATENTS
    # An untrained VAE forgets the first frame more slowly than a trained one: only what is really encoded is alike.
    assert (found - expected)[:, :, :SETTLED].abs().mean() < 0.05 * expected.std()
    assert torch.equal(found[:, :, -1], found[:, :, SETTLED - 1])
    motion = torch.randn(1, 16, 1, encoder.height // 8, encoder.width // 8)
    found = conditions(PRO, encoder, start, start, motion)
    assert (found[:, :, :1] - encode_normalized(encoder.vae, start)).abs().mean() < 0.05
    assert torch.equal(found[:, :, 1:2], motion)
    assert not found[:, :, 2:].any()


@pytest.mark.parametrize("way", [I2V, SVI20, PRO, Way("pro", Layout(motion_latents=2, pad="zero_latent"))])
def test_the_truth_does_not_drift(way):
    streams = held_out_streams(2, 3, 1.0, 8)
    videos = [torch.stack([draw(s.truth(way)[i], 32, 32) for s in streams]) for i in range(3)]
    pairs = [torch.stack([a[:, -1], b[:, way.overlap]], 1) for a, b in pairwise(videos)]
    rows = measure(way, streams, zip(videos, [None, *pairs], strict=True), 32, 32)
    assert [row.segment for row in rows] == [1, 2, 3]
    assert "stream" in rows[-1].seams
    assert all(
        row.kept == 1 and abs(row.seam) < 1e-6 and max(row.seams.values()) < 1e-6 and drift_of(row) < 1e-4
        for row in rows
    )


def test_a_fading_chain_drifts():
    streams = held_out_streams(2, 3, 1.0, 8)
    videos = (torch.stack([draw(s.truth(I2V)[i], 32, 32) for s in streams]) * (1 - 0.2 * i) for i in range(3))
    rows = measure(I2V, streams, ((video, None) for video in videos), 32, 32)
    assert drift_of(rows[2]) > drift_of(rows[1]) > 1
    for row in rows:
        assert len(row.streams) == len(streams)
        assert sum(row.streams) / len(streams) == pytest.approx(drift_of(row), abs=1e-3)
