"""Manifests: the files that ask for work. `read` makes a checked `model.Manifest` of bytes, `schema` describes it."""
