"""The watched folder: a file dropped into watch/inbox is taken once, and always answered."""
