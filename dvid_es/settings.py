"""The settings of a server: one frozen value, made once. The only reader of the environment."""

from pathlib import Path

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a server is told at its start."""

    data: Path
    """Folder of logs, packs and projections."""

    host: str = "127.0.0.1"
    port: int = 8000
    mode: str = ""
    """`""`, `"readonly"` or `"fullwrite"` (committed versions may change)."""

    admin_token: str = ""
    """Empty: nobody is an admin."""

    open_repo_creation: bool = True
    """Whether anybody may create a repository; DVID itself wants the admin token."""

    allow_split: bool = False
    """Whether POST split of labelmap is allowed."""

    cors_domains: tuple[str, ...] = ()
    max_body_bytes: int = 4 << 30
