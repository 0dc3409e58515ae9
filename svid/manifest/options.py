"""A plugin's options: made of a table of a manifest, and written down again, so that a segment's ask has them and they
can be made of that, years later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import AliasChoices, BaseModel

from svid.canonical import canonical
from svid.errors import SvidError


def build(model: type[BaseModel], table: Mapping[str, Any]) -> BaseModel:
    """The options that a table says. Raises ValidationError, or whatever the model's own validators raise."""
    # Through JSON, because there pydantic's strict mode means what a manifest means: a list may fill a tuple, but "1"
    # and true are no numbers, whatever the plugin's own model would let pass.
    return model.model_validate_json(json.dumps(table), strict=True)


def keys_of(model: type[BaseModel]) -> set[str]:
    """The keys that a table of options may have, beside those that a model with `extra = "allow"` lets pass."""
    keys: set[str] = set()
    config = model.model_config
    for name, field in model.model_fields.items():
        written = field.validation_alias
        choices = written.choices if isinstance(written, AliasChoices) else [written]
        aliases = {choice for choice in choices if isinstance(choice, str)}
        keys |= aliases
        if not aliases or config.get("populate_by_name") or config.get("validate_by_name"):
            keys.add(name)
    return keys


def as_table(options: BaseModel) -> dict[str, Any]:
    """Options as a manifest would say them, every key, as JSON data; sets are sorted, because their own order is
    another one in every process."""
    how: dict[str, Any] = {"by_alias": True, "round_trip": True}
    plain: dict[str, Any] = _sorted(options.model_dump(mode="json", **how), options.model_dump(**how))
    return plain


def _sorted(plain: Any, held: Any) -> Any:
    """JSON data with the lists sorted that were sets in `held`, of which it was made."""
    if isinstance(held, set | frozenset):
        return sorted(plain, key=canonical)
    if isinstance(plain, dict) and isinstance(held, Mapping) and len(plain) == len(held):
        return {key: _sorted(one, other) for (key, one), other in zip(plain.items(), held.values(), strict=True)}
    if isinstance(plain, list) and isinstance(held, list | tuple) and len(plain) == len(held):
        return [_sorted(one, other) for one, other in zip(plain, held, strict=True)]
    return plain


def lost(options: BaseModel) -> str:
    """What is lost where options are written down and read again, as a message; empty where nothing is. A secret is
    written as asterisks, an excluded field not at all, and two of them would be one ask."""
    model, table = type(options), as_table(options)
    try:
        canonical(table)
    except SvidError as error:
        return f"{error.problems[0].where}: {error.problems[0].message}"
    unread = table.keys() - keys_of(model) if model.model_config.get("extra") != "allow" else set()
    if unread:
        return f"{min(unread)}: is written under this name and read under another: expected `alias`"
    again = build(model, table)
    if again == options:
        return ""
    fields = [name for name in model.model_fields if getattr(again, name) != getattr(options, name)]
    return f"{', '.join(fields) or 'something'}: is not the same after it was written down and read again"
