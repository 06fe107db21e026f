"""Measurements, run from the repository's root: as scripts, or as modules where they use the tests' servers."""
