"""Tells others that this server starts.

Source: startWebhook and startJaneliaConfig in server/server_local.go (janelia-flyem/dvid).
"""

import json
import urllib.error
import urllib.parse
import urllib.request

from dvid_es.errors import SettingsError
from dvid_es.settings import Settings

TIMEOUT_SECONDS = 30.0


def announce_start(settings: Settings) -> None:
    """Post address, host and note to the URLs in the settings, before anything is opened.

    Raises:
        SettingsError: one of them cannot be reached or does not answer 200; do not start then.
    """
    facts = {
        "HTTP Address": f"{settings.host}:{settings.port}",
        "Host": settings.public_host or settings.host,
        "Note": settings.note,
        "RPC Address": "",
    }
    text = json.dumps(facts)
    if settings.start_webhook:
        _post("startWebhook", settings.start_webhook, text.encode(), "application/json")
    if settings.start_janelia_config:
        form = urllib.parse.urlencode({"config": text}).encode()
        kind = "application/x-www-form-urlencoded"
        _post("startJaneliaConfig", settings.start_janelia_config, form, kind)


def _post(name: str, url: str, body: bytes, content_type: str) -> None:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise SettingsError(f"{name}: {url} is not an http address")
    request = urllib.request.Request(url, body, {"Content-Type": content_type}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            status = answer.status
    except urllib.error.HTTPError as problem:
        with problem:
            status = problem.code
    except OSError as problem:
        raise SettingsError(f"{name}: {url} cannot be reached: {problem}") from problem
    if status != 200:
        raise SettingsError(f"{name}: {url} answered {status}, so this server does not start")
