"""A pytest plugin: the tests run in a process of our own, where transformers is imported as the command imports it."""

from gemma_captioner.engines.local.families import FAMILIES
from gemma_captioner.imports import claim_process, finish_imports

claim_process()
finish_imports([module for family in FAMILIES.values() for module in family.modules])
