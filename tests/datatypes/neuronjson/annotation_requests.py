"""Requests to annotations as clients send them, and what of the answers does not hang on the time."""

from __future__ import annotations

import json
import re
from typing import Any

from dvid_es.codecs import messages_pb2 as messages
from tests.conftest import Live
from tests.datatypes.neuronjson import annotation_model as model

NODE = "/api/node"
_NOW = re.compile(r"20(2[6-9]|[3-9]\d)-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def put(live: Live, node: str, value: dict[str, Any], user: str = "ann", **query: Any) -> Any:
    return live.ok("POST", f"{node}/key/{value['bodyid']}", json_body=value, u=user, **query)


def get(live: Live, node: str, body: int, **query: Any) -> Any:
    return timeless(live.ok("GET", f"{node}/key/{body}", **query).json())


def timeless(value: Any) -> Any:
    """A value with the times of this run replaced."""
    if isinstance(value, dict):
        return {name: timeless(one) for name, one in value.items()}
    if isinstance(value, list):
        return [timeless(one) for one in value]
    return model.NOW if isinstance(value, str) and _NOW.fullmatch(value) else value


def batch(**records: Any) -> bytes:
    message = messages.KeyValues()
    for key, value in records.items():
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        message.kvs.add(key=key.removeprefix("b"), value=raw)
    return message.SerializeToString()


def sequence(server: Live, node: str) -> str:
    return server.ok("GET", f"{node}/info").headers["x-dvid-es-seq"]
