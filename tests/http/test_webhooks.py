import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from typing import ClassVar

import pytest

from dvid_es.errors import SettingsError
from dvid_es.http.webhooks import announce_start
from dvid_es.settings import Settings


class Listener(http.server.BaseHTTPRequestHandler):
    heard: ClassVar[list[tuple[str, str, bytes]]] = []
    answer = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append((self.path, self.headers["Content-Type"], body))
        self.send_response(self.answer)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[str]:
    Listener.heard, Listener.answer = [], 200
    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_start_is_told_as_json_and_as_a_form(listener, tmp_path):
    announce_start(
        Settings(
            data=tmp_path,
            public_host="big",
            note="é",
            start_webhook=f"{listener}/hook",
            start_janelia_config=f"{listener}/form",
        )
    )
    (path, kind, body), (form_path, form_kind, form) = Listener.heard
    facts = {"HTTP Address": "127.0.0.1:8000", "Host": "big", "Note": "é", "RPC Address": ""}
    assert (path, kind, json.loads(body)) == ("/hook", "application/json", facts)
    assert (form_path, form_kind) == ("/form", "application/x-www-form-urlencoded")
    assert json.loads(urllib.parse.parse_qs(form.decode())["config"][0]) == facts


def test_a_start_that_nobody_approves_does_not_happen(listener, tmp_path):
    Listener.answer = 403
    with pytest.raises(SettingsError, match="answered 403"):
        announce_start(Settings(data=tmp_path, start_webhook=listener))
    with pytest.raises(SettingsError, match="cannot be reached"):
        announce_start(Settings(data=tmp_path, start_webhook="http://127.0.0.1:9"))
    with pytest.raises(SettingsError, match="not an http address"):
        announce_start(Settings(data=tmp_path, start_webhook="file:///etc/passwd"))
    announce_start(Settings(data=tmp_path))
