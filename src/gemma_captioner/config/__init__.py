"""Settings, the order in which their sources override each other, presets, and the limits of trainers."""
