"""Files and their captions on disk: discovery, the `.txt`, the journal, claims on a folder, trash, rows of parquet."""
