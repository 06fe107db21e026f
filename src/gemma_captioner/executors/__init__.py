"""Where a run happens: in this process (local), or in actors of Ray (ray/). The same pipeline in both."""
