"""Media files and their captions on disk: discovery, `.txt` files, journal, run lock, trash, parquet files."""
