"""The page on which a person reads, corrects and approves captions: `gemma-captioner review`.

library.py what is in the folder; origins.py, decisions.py what is known of it; query.py what is shown of it;
bulk.py what is done to many; edits.py every change, each with its way back. These know of no browser.
guard.py who may speak to the server, and which files it touches; renditions.py, media.py pictures of the files.
proposals.py, runs.py captioning from the page; overview.py figures. page/ what is seen.
"""
