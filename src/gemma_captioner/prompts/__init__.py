"""The inputs of a prompt besides the media: variables, metadata about a file, few-shot examples."""
