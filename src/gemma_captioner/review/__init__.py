"""The page on which a person reads, corrects and approves captions: `gemma-captioner review`.

library.py what is in the folder; provenance.py, decisions.py what is known of it; query.py what is shown of it;
bulk.py what is done to many; edits.py every change, each with its way back. These know of no browser.
guard.py who may speak to the server, and which files it touches; thumbnails.py, media.py pictures of the files.
caption_details.py a caption's provenance in words; proposals.py, runs.py captioning from the page; overview.py figures. page/ what is seen.
"""
