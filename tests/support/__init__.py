"""What several test modules, tools and benchmarks share: drawn data, small servers, ways to run the command."""
