"""From the log to the views: catching up, rebuilding, verifying, snapshots."""
