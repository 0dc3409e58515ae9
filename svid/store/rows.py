"""Rows as plain JSON and back, for what is to outlive the database: the trash, and the receipts of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from svid.store.models import Artifact, Asset, Attempt, Base, Blob, Clip, Job, JobSegment, Moment, Segment, Video

TABLES: dict[str, type[Base]] = {
    model.__tablename__: model for model in (Blob, Asset, Segment, Clip, Video, Job, Attempt, JobSegment, Artifact)
}
"""What is kept, in an order in which every row finds those that it points at. Segments go in by their index."""


def plain(row: Base) -> dict[str, Any]:
    """A row's columns: JSON as it is, times as ISO 8601 in UTC."""
    found = {}
    for column in inspect(type(row)).columns:
        value = getattr(row, column.key)
        found[column.key] = value.isoformat() if isinstance(value, datetime) else value
    return found


def typed(model: type[Base], values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of `plain` as the table takes them; what the table does not have is left out."""
    found = {}
    for column in inspect(model).columns:
        value = values.get(str(column.key))
        if value is not None:  # given, None would become the JSON value null where it was none at all
            is_moment = isinstance(column.type, Moment) and isinstance(value, str)
            found[str(column.key)] = datetime.fromisoformat(value) if is_moment else value
    return found


def put(session: Session, model: type[Base], values: Mapping[str, Any]) -> bool:
    """Insert a row, unless one with its key is there. Raises IntegrityError where what it points at is missing."""
    given = typed(model, values)
    key = tuple(given.get(str(column.key)) for column in inspect(model).primary_key)
    if session.get(model, key if len(key) > 1 else key[0]) is not None:
        return False
    session.add(model(**given))
    session.flush()
    return True
