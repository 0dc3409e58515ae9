"""Chains that are decoded as one clip: the frames are those of one long decode, whatever comes between."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan

from svid.config import EMBEDDED
from svid.errors import ManifestError
from svid.wan.vae import decode_frames, decoder_reach
from svid.workbench import Workbench
from tests.e2e.tools import BY_CLIP, LOSSLESS, asks, bench_in, latents_of, new, picture, shown


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    made = bench_in(tmp_path_factory.mktemp("streams") / "home")
    (made.home.inbox / "gull.png").write_bytes((made.home.root / "watch/examples/gull.png").read_bytes())
    return made


def test_a_stream_is_one_long_decode_bit_for_bit_also_after_a_restart(tmp_path: Any) -> None:
    """Segments decoded one after another, and in another process of the same chain, are those of one decode of all."""
    options: dict[str, Any] = {"decode": {"stream": True}, **LOSSLESS}
    prompts = [f"scene {number}" for number in range(4)]
    bench = bench_in(tmp_path / "home")
    whole = shown(bench, new("whole", *prompts, **options))
    frames = picture(whole)
    chain = [latents_of(bench, whole, number) for number in range(1, 5)]
    z = torch.cat([chain[0], *(one[:, :, 2:] for one in chain[1:])], dim=2)
    vae = AutoencoderKLWan.from_pretrained(EMBEDDED / "wan22-mini" / "vae", torch_dtype=torch.float32).eval()
    assert torch.equal(frames, torch.cat(list(decode_frames(vae, z))))
    assert len(frames) == 9 + 3 * 4
    by_clip = picture(shown(bench, new("clips", *prompts, **BY_CLIP, **LOSSLESS)))
    assert torch.equal(by_clip[:9], frames[:9])
    assert not torch.equal(by_clip[9:], frames[9:])
    begun = shown(bench, new("begun", *prompts[:2], **options))
    other = Workbench(bench.home, bench.desk)  # a fresh process has no decoder that remembers
    longer = other.run({"extend": begun["id"], "prompts": prompts[2:], "reuse": False})
    assert torch.equal(picture(longer), frames)


def test_an_entry_of_a_model_makes_its_chains_streams_where_they_can_be(bench: Workbench) -> None:
    """The miniature's says so; a manifest, a seam or a recipe that has no part for one says otherwise."""
    streams = {
        "as the entry says": {},
        "by clip": BY_CLIP,
        "another seam": {"conditioning": {"seam": "blend"}, "frames": 13},
        "another recipe": {"recipe": "svi-2.0-wan22"},
    }
    found = {name: asks(bench, shown(bench, new(name, "one", "two", **more))) for name, more in streams.items()}
    assert {name: [ask.get("stream", False) for ask in some] for name, some in found.items()} == {
        name: [name == "as the entry says"] * 2 for name in streams
    }


def test_what_goes_on_with_a_seam_that_no_stream_has_is_decoded_clip_by_clip(bench: Workbench) -> None:
    begun = shown(bench, new("begun", "one", "two", frames=13, **LOSSLESS))
    before = picture(begun)
    on = {"extend": begun["id"], "prompts": ["three"], "conditioning": {"seam": "tail"}}
    longer = shown(bench, on)
    assert [ask.get("stream", False) for ask in asks(bench, longer)] == [True, True, False]
    assert [segment["frames"] for segment in longer["segments"]] == [13, 3, 13]
    assert torch.equal(picture(longer)[:16], before[:16])


def test_a_decoder_is_let_go_of_when_something_is_decoded_otherwise(tmp_path: Any) -> None:
    bench = bench_in(tmp_path / "home")
    video = shown(bench, new("a", "one", decode={"stream": True}))
    model = bench.studio._warm[1]
    assert model.stream is not None
    shown(bench, new("b", "two", **BY_CLIP))
    assert bench.studio._warm[1] is model
    assert model.stream is None
    longer = bench.run({"extend": video["id"], "prompts": ["three"]})
    assert len(longer["segments"]) == 2


def test_what_a_decoder_forgot_has_no_part_in_its_frames() -> None:
    """A decoder that began `decoder_reach` latents ago gives the bits of one that saw everything; one that began much
    later does not."""
    vae = AutoencoderKLWan.from_pretrained(EMBEDDED / "wan22-mini" / "vae", torch_dtype=torch.float32).eval()
    reach = decoder_reach(vae)
    z = torch.randn(1, 16, reach + 12, 2, 2, generator=torch.Generator().manual_seed(4))
    whole = torch.cat(list(decode_frames(vae, z)))[-8:]

    def begun(latents: int) -> torch.Tensor:
        return torch.cat(list(decode_frames(vae, z[:, :, -latents - 2 :])))[-8:]

    assert torch.equal(begun(reach), whole)
    assert not torch.equal(begun(4), whole)


def test_a_chain_that_is_not_handed_on_as_latents_can_not_be_a_stream(bench: Workbench) -> None:
    with pytest.raises(ManifestError, match=r"decode\.stream: expected a recipe that hands over latents"):
        bench.accept(new("no", "one", recipe="svi-2.0-wan22", decode={"stream": True}))


@pytest.mark.parametrize(
    "before",
    [
        {"conditioning": {"seam": "blend"}, "frames": 13},
        {"conditioning": {"seam": "tail"}},
        {"recipe": "svi-2.0-wan22", "conditioning": {"motion_frames": 3}},
    ],
)
def test_a_stream_goes_on_with_a_chain_that_was_no_stream(tmp_path: Any, before: dict[str, Any]) -> None:
    """What is decoded is what one decode of the latents would give from where they repeat whole latents."""
    bench = bench_in(tmp_path / "home")
    begun = shown(bench, new("begun", "one", "two", **{**LOSSLESS, **before}))
    seen = picture(begun)
    on = {"recipe": "svi-2.0-pro", "frames": 9, "conditioning": {"seam": "head"}, "decode": {"stream": True}}
    if "recipe" in before:
        del on["conditioning"]
    longer = shown(bench, {"extend": begun["id"], "prompts": ["three"], **on})
    assert asks(bench, longer)[2]["stream"]
    assert torch.equal(picture(longer)[: len(seen)], seen)
    first, second, third = (latents_of(bench, longer, number) for number in (1, 2, 3))
    chain = [second] if "recipe" in before else [first, second[:, :, 2:]]
    z = torch.cat([*chain, third[:, :, 2:]], dim=2)
    vae = AutoencoderKLWan.from_pretrained(EMBEDDED / "wan22-mini" / "vae", torch_dtype=torch.float32).eval()
    assert torch.equal(picture(longer)[len(seen) :], torch.cat(list(decode_frames(vae, z)))[-4:])
