"""planner: what there is to do -> scheduler: the one loop -> item: one file on its way -> postprocess: a caption."""
