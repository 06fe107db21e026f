"""Writes captions in the formats of the trainers."""
