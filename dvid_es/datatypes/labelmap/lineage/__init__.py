"""What made a body or supervoxel what it is, and what differs between two moments."""
