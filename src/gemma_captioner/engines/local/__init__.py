"""Runs Gemma in this process with transformers: checkpoint -> loading -> prompting, vision -> session."""
