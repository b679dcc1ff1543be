"""Materialized views of a log: what reads need, kept in LMDB, rebuilt from events at any time."""
