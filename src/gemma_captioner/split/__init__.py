"""Splits long videos into clips at scene cuts."""
