"""What the model is asked: variables, facts about a file, examples to follow."""
