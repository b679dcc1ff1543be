"""Undo and redo: events that take back what earlier mutations did, and do it again."""
