"""Recordings of the reference implementations, and what svid makes of the same weights and inputs."""
