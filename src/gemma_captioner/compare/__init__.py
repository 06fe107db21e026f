"""`gemma-captioner compare`: a sample of a folder under several prompts, models and frame counts, side by side.

axes -> variants.py -> sample.py -> comparison.py, with the model kept loaded by kept.py -> shown.py
"""
