"""The executors run the pipeline: in this process (local.py), or in Ray actors (ray/)."""
