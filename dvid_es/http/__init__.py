"""The HTTP face: requests in, DVID's bytes out. Nothing here knows what a datatype means."""
