"""The daemon: watches the inbox, owns the queue, and has a child process do the model work."""
