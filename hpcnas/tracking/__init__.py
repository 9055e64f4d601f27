"""Tracking: the curves of a run in the formats of programs that people watch them with. Nothing of it is needed."""
