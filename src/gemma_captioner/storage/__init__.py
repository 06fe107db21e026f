"""Where files lie: a folder, a bucket, a tar."""
