"""The same pipeline on many machines, over Ray Data: paths in, outcomes out; no pixels cross.

driver.py    ClusterRun: lists, plans, hands out, counts
resources.py Ray: joining or starting it, how many actors there are and what each has
worker.py    an actor: one engine, one pipeline, fed by several batches at once
completed.py what actors that died had finished
isolation.py what never came back, one file at a time

Ray is imported where it is used, so that nothing else waits for it.
"""
