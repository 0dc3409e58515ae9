"""A start picture with a colour profile is taken in as sRGB, once; one that a video has stays what it was."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from svid.media.images import open_picture
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new
from tests.icc import profile


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return bench_in(tmp_path_factory.mktemp("profiles") / "home")


def taken(bench: Workbench, written: str) -> tuple[str, Image.Image]:
    """The digest of a picture as a manifest takes it in, and what is stored of it."""
    request = bench.desk.understand(
        json.dumps(new("one", "calm", image=written)).encode(), "one.json", bench.home.inbox
    )
    (ref,) = {ref.sha256: ref for ref in request.pictures.values()}.values()
    return ref.sha256, open_picture(bench.desk.pictures.blobs.path(ref.sha256))


def test_it_is_stored_in_srgb_without_a_profile(bench: Workbench) -> None:
    picture = Image.new("RGB", (32, 32), (200, 60, 50))
    picture.save(bench.home.inbox / "phone.png", icc_profile=profile())
    sha256, stored = taken(bench, "phone.png")
    assert stored.getpixel((0, 0)) == pytest.approx((219, 37, 34), abs=2)
    assert "icc_profile" not in stored.info
    assert taken(bench, "phone.png")[0] == sha256
    assert taken(bench, f"asset:{sha256}")[0] == sha256


def test_one_that_lies_in_the_store_with_a_profile_stays_what_it_was(bench: Workbench) -> None:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), (20, 160, 50)).save(data, "PNG", icc_profile=profile())
    blobs = bench.desk.pictures.blobs
    draft = blobs.scratch()
    draft.write_bytes(data.getvalue())
    sha256 = blobs.publish(blobs.draft_file(draft))
    found, stored = taken(bench, f"asset:{sha256}")
    assert found == sha256
    assert stored.getpixel((0, 0)) == (20, 160, 50)


def test_the_log_names_one_whose_profile_is_broken(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (32, 32), (200, 60, 50)).save(bench.home.inbox / "torn.png", icc_profile=b"no profile")
    _, stored = taken(bench, "torn.png")
    assert stored.getpixel((0, 0)) == (200, 60, 50)
    assert any(said.startswith("torn.png: taken for sRGB") for said in caplog.messages)
