"""Access to files: local folders, object stores, tar archives."""
