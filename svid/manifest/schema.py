"""The manifest's JSON Schema: the sum of what svid and its plugins understand, for editors and for `watch/schema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from svid.manifest.across import NEW, START
from svid.manifest.model import Manifest

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _WithoutNull(GenerateJsonSchema):
    """What can be left out is left out: a manifest has no null, so neither has its schema."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """The schema of the value, for when there is one."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """The schema with its default, unless that is nothing."""
        found = super().default_schema(schema)
        default = found.get("default", 0)
        if isinstance(default, dict):
            default = found["default"] = {key: value for key, value in default.items() if value is not None}
        if default in (None, {}, []):
            del found["default"]
        return found

    def field_title_should_be_set(self, schema: Any) -> bool:
        """No titles: they would say "Fps" for fps."""
        return False


def json_schema(options: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a manifest, with the options of every plugin given. Rules that tie fields together
    are in it as far as a schema can say them; `svid check` knows the rest."""
    models: list[type[BaseModel]] = [Manifest, *dict.fromkeys(options.values())]
    places, together = models_json_schema(
        [(model, "validation") for model in models], schema_generator=_WithoutNull, ref_template="#/$defs/{model}"
    )
    definitions = dict(together["$defs"])
    manifest: dict[str, Any] = definitions.pop(places[Manifest, "validation"]["$ref"].rpartition("/")[2])
    tables = {name: places[model, "validation"] for name, model in sorted(options.items())}
    manifest["properties"]["options"] = {
        "type": "object",
        "description": Manifest.model_fields["options"].description,
        "properties": tables,
        "additionalProperties": False,
    }
    # editors write the first into JSON manifests to find the schema; svid takes no notice of it
    manifest["properties"] = {"$schema": {"type": "string"}} | manifest["properties"]
    manifest["oneOf"] = [{"required": [key, "prompts"] if key in NEW else [key]} for key in START]
    return {"$schema": DIALECT} | manifest | {"title": "svid manifest", "$defs": definitions}
