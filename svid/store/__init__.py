"""What svid remembers: the database, the blobs, and the lineage that ties them together."""
