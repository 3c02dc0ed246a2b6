"""The search engine: a synchronous library over LMDB, exact columns and usearch graphs."""
