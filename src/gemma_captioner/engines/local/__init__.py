"""Gemma by transformers, in this process: checkpoint -> loading -> prompting, vision -> session -> loop."""
