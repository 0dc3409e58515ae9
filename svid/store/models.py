"""The tables. Rows of blob, asset, segment and clip never change; of the lineage only `video.tip_id` does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Moment(TypeDecorator[datetime]):
    """A point in time in UTC. A naive one is refused, because nobody could tell later which zone it meant."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"naive time {value}")
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """SQLite forgets the zone; it was UTC."""
        return value.replace(tzinfo=UTC) if value else None


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """The tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, datetime: Moment}  # noqa: RUF012 (SQLAlchemy's own)


class Blob(Base):
    """A file under db/blobs, named by its sha256."""

    __tablename__ = "blob"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    bytes: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[datetime] = mapped_column(default=now)


class Asset(Base):
    """An input picture or clip, as it was given; `pixels` is the digest of what a picture shows, of a clip's bytes."""

    __tablename__ = "asset"
    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), primary_key=True)
    pixels: Mapped[str] = mapped_column(String(64))
    width: Mapped[int]
    height: Mapped[int]
    source: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(default=now)


class Segment(Base):
    """A committed clip: what was asked, what came out, under what circumstances."""

    __tablename__ = "segment"
    __table_args__ = (Index("segment_rendered", "frames", "seconds"),)  # counted and summed without reading asks
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("segment.id"), index=True)
    index: Mapped[int]
    ask_key: Mapped[str] = mapped_column(String(64), index=True)
    ask: Mapped[dict[str, Any]]
    latents: Mapped[str] = mapped_column(ForeignKey("blob.sha256"))
    tail: Mapped[str] = mapped_column(ForeignKey("blob.sha256"))
    seed: Mapped[str] = mapped_column(String(20))
    frames: Mapped[int]
    overlap: Mapped[int]
    parent_trim: Mapped[int]
    blend: Mapped[int] = mapped_column(server_default="0")
    width: Mapped[int]
    height: Mapped[int]
    env: Mapped[dict[str, Any]]
    seconds: Mapped[float]
    created: Mapped[datetime] = mapped_column(default=now)

    @property
    def room(self) -> int:
        """Frames at its end that what follows may take the place of: those that are neither repeated nor blended."""
        return self.frames - self.overlap - self.blend

    def shown(self, followed_by: Segment | None) -> int:
        """Frames that the segment contributes to a video, at its end (None) or followed by another segment."""
        return self.frames - self.overlap - (followed_by.parent_trim if followed_by else 0)


class Clip(Base):
    """A segment's shown frames, encoded; `encoding` is the digest of everything that decides the bytes."""

    __tablename__ = "clip"
    segment_id: Mapped[str] = mapped_column(ForeignKey("segment.id"), primary_key=True)
    encoding: Mapped[str] = mapped_column(String(64), primary_key=True)
    blob: Mapped[str] = mapped_column(ForeignKey("blob.sha256"))
    frames: Mapped[int]
    created: Mapped[datetime] = mapped_column(default=now)


class Video(Base):
    """A named pointer to the last segment of a chain."""

    __tablename__ = "video"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(Text, index=True)
    tip_id: Mapped[str | None] = mapped_column(ForeignKey("segment.id"))
    forked_from: Mapped[str | None] = mapped_column(ForeignKey("video.id"))
    fork_length: Mapped[int] = mapped_column(default=0)
    created: Mapped[datetime] = mapped_column(default=now)


LIVE = ("queued", "running")
"""The states of a job that somebody will still work on."""


class Job(Base):
    """An accepted manifest. The row is the truth; the file in the watch/ of its home is its receipt."""

    __tablename__ = "job"
    __table_args__ = (UniqueConstraint("digest", "occurrence"), Index("job_queue", "state", "priority", "seq"))
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(16), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    occurrence: Mapped[int]
    file: Mapped[str] = mapped_column(Text)
    claimed: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    manifest: Mapped[dict[str, Any]]
    pictures: Mapped[dict[str, Any]]
    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), index=True)
    after: Mapped[str | None] = mapped_column(ForeignKey("video.id"))
    base_length: Mapped[int | None]
    home: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(10), default="queued")
    priority: Mapped[int] = mapped_column(default=0)
    attempt: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None] = mapped_column(String(40))
    started_from: Mapped[dict[str, Any] | None]
    progress: Mapped[dict[str, Any] | None]
    errors: Mapped[list[Any] | None]
    answered: Mapped[bool] = mapped_column(default=False)
    created: Mapped[datetime] = mapped_column(default=now)
    ended: Mapped[datetime | None]


class KnownHome(Base):
    """A home that uses this database, and where it was when it last did."""

    __tablename__ = "home"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    root: Mapped[str] = mapped_column(Text)


class Attempt(Base):
    """One go at a job."""

    __tablename__ = "attempt"
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str] = mapped_column(String(40))
    started: Mapped[datetime] = mapped_column(default=now)
    ended: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(20))
    detail: Mapped[str | None] = mapped_column(Text)
    memory: Mapped[str | None] = mapped_column(String(20))
    reached: Mapped[dict[str, Any] | None]
    committed: Mapped[int] = mapped_column(default=0)


class JobSegment(Base):
    """The segment that a job put at a place of its video, and the settings that hold after it."""

    __tablename__ = "job_segment"
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    segment_id: Mapped[str] = mapped_column(ForeignKey("segment.id"), index=True)
    reused: Mapped[bool]
    settings: Mapped[dict[str, Any]]


class Artifact(Base):
    """A finished file; `path` is relative to its job's home. It can be made again from the segments."""

    __tablename__ = "artifact"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), index=True)
    tip_id: Mapped[str] = mapped_column(ForeignKey("segment.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    path: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    frames: Mapped[int]
    fps: Mapped[float]
    codec: Mapped[str] = mapped_column(String(20))
    created: Mapped[datetime] = mapped_column(default=now)


class FileDigest(Base):
    """The sha256 of a file outside the home, kept as long as its size, times and inode stay the same."""

    __tablename__ = "file_digest"
    path: Mapped[str] = mapped_column(Text, primary_key=True)
    signature: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
