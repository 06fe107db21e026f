"""What the repository is kept with. Run them from its root, as modules: `python -m tools.soak`."""
