"""Helpers for tests, tools and benchmarks: drawn data, small servers, ways to run the command."""
