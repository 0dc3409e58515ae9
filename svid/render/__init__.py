"""Rendering: the stage chain for one segment, and the loop over the segments of a job."""
