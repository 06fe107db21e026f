"""`gemma-captioner review`: a page on which a person reads, corrects and approves captions.

Only page/ imports the web framework. The other modules:
library.py lists the media and captions of the folder; provenance.py and decisions.py read what is recorded about them.
query.py filters and sorts; overview.py counts; caption_details.py describes one caption.
edits.py makes every change and can undo it; bulk.py plans a change of many captions.
guard.py checks requests and file paths; media.py and thumbnails.py produce what the browser displays.
runs.py captions from the page; proposals.py holds new captions until a person accepts or declines them.
"""
