"""The events of repositories as others follow them: one JSON text each, in the order of the log."""
