"""Runs the pipeline on many machines with Ray Data. Only paths and outcomes pass through Ray, never pixels.

driver.py     ClusterRun: lists and plans the files, sends them to actors in batches, yields the outcomes
resources.py  starts or joins Ray, and decides the number of actors and the CPUs and GPUs of each
worker.py     the actor: one engine and one pipeline
completed.py  outcomes of actors that died
isolation.py  retries lost files one at a time

The modules import Ray inside functions, because the import is slow.
"""
