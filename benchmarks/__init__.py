"""Benchmarks. Run them from the repository root: as scripts, or as modules if they use the servers of the tests."""
