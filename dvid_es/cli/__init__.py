"""The command line: `dvid-es`."""

from dvid_es.cli.main import main

__all__ = ["main"]
