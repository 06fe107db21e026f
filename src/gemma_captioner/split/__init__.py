"""Long videos, cut at their scenes."""
