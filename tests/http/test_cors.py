import pytest

from dvid_es.http.cors import Cors
from dvid_es.settings import Settings

PAGE = "https://viewer.example.org"


def test_without_domains_no_header_is_ever_sent():
    cors = Cors(())
    assert not cors.active
    assert cors.headers(PAGE) == {}


def test_a_star_lets_everybody_read():
    assert Cors(("*",)).headers(None)["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in Cors(("*",)).headers(PAGE)


@pytest.mark.parametrize(
    ("domain", "origin", "allowed"),
    [
        ("https://viewer.example.org", PAGE, True),
        ("https://viewer.example.org/", PAGE, True),
        ("https://viewer.example.org", "http://viewer.example.org", False),
        ("https://viewer.example.org", "https://viewer.example.org:8080", False),
        ("example.org", PAGE, True),
        ("example.org", "http://example.org:3000", True),
        ("example.org", "https://badexample.org", False),
        ("example.org", "https://example.org.evil.com", False),
        ("example.org", "null", False),
        ("example.org", "https://[", False),
    ],
)
def test_origins_and_domains_are_told_apart(domain, origin, allowed):
    headers = Cors((domain,)).headers(origin)
    assert headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
    assert headers["Vary"] == "Origin"


def test_a_preflight_allows_tokens_and_json(run_server, tmp_path):
    settings = Settings(data=tmp_path / "data", cors_domains=("example.org",))
    with run_server(settings) as live:
        root = live.new_repo()
        kv = live.new_instance(root, "keyvalue", "kv")
        asked = {
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        for path in (f"{kv}/key/a", "/api/repos", f"/api/repo/{root}/info", "/api/server/info"):
            answer = live.call("OPTIONS", path, headers=asked)
            assert answer.status == 200
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert "POST" in answer.headers["access-control-allow-methods"]
            names = answer.headers["access-control-allow-headers"].lower()
            assert {"authorization", "content-type"} <= set(names.split(", "))
        stranger = live.call(
            "OPTIONS", f"{kv}/key/a", headers={**asked, "Origin": "https://evil.com"}
        )
        assert stranger.status == 200
        assert "access-control-allow-origin" not in stranger.headers
        read = live.call("GET", f"{kv}/key/none", headers={"Origin": PAGE})
        assert read.status == 404
        assert read.headers["access-control-allow-origin"] == PAGE
        value = b"v" * 600_000
        live.ok("POST", f"{kv}/keyvalues", b"\n\x03\n\x01a")
        live.ok("POST", f"{kv}/key/b", value)
        streamed = live.call("GET", f"{kv}/keyrangevalues/a/c", headers={"Origin": PAGE})
        assert streamed.headers["access-control-allow-origin"] == PAGE


def test_options_tells_the_methods_of_a_path(live):
    allowed = live.ok("OPTIONS", "/api/server/info").headers["allow"]
    assert allowed == "GET, HEAD, OPTIONS"
    assert live.ok("OPTIONS", "/api/server/settings").headers["allow"] == "POST, OPTIONS"
    assert live.call("OPTIONS", "/api/nothing").status == 404
