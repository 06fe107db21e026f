"""What is seen of the review in a browser: NiceGUI, imported nowhere else."""
