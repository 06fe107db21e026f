"""Maintenance tools. Run them from the repository root, as modules: `python -m tools.soak`."""
