"""The Hub's HTTP API on this machine, for the real client: what it does is said in ``README.md`` beside this file."""
