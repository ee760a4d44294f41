"""Vectors that stand for records: clustering, search, and what is near what."""
