"""Has NiceGUI delete a page that no browser connects to after 5 seconds, not 60, before a server is forked."""

from nicegui.client import Client

Client.prune_instances.__func__.__kwdefaults__["client_age_threshold"] = 5.0
