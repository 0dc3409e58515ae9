"""Wan 2.2 image-to-video: what the stages in `plugins/` are built from."""
