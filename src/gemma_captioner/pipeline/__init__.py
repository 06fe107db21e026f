"""planner: items to caption -> scheduler: the main loop -> item: the state of one file -> postprocess -> writer."""
