"""Media files and their captions on disk: discovery, `.txt` files, the journal, the run lock, the trash, parquet files."""
