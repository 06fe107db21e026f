"""Captions in the formats that trainers read."""
