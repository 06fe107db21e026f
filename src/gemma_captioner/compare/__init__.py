"""`gemma-captioner compare`: captions a sample of files with several prompts, models and frame counts, side by side.

variants.py and sample.py choose what to caption; comparison.py runs it through shared_engine.py; report.py presents it.
"""
