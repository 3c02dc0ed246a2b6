"""Files and a bucket: reserved for shipping every write to object storage. Nothing is here yet."""
