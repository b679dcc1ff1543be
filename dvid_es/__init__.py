"""DVID on an event log: a versioned, image-oriented data service for connectomics."""

from pathlib import Path

__version__ = "0.1.0"

# A checkout without symbolic links would import (and build a wheel) without three packages, silently.
if not (Path(__file__).parent / "logs").is_dir():
    raise ImportError(
        "dvid_es/logs is not a folder: the links of this checkout are missing."
        " Run: git config core.symlinks true; git checkout -- dvid_es"
    )
