import pytest

from dvid_es.errors import InvalidRequest
from dvid_es.http.blocklist import client_address, load, parse
from dvid_es.settings import Settings


def test_users_and_addresses_are_blocked():
    found = parse(["u=waldo, be nice", "", "# a comment", "ip=10.1.*.7,scraper"], "list")
    assert found.reason("waldo", "1.2.3.4") == 'User "waldo" is blocked: be nice'
    assert found.reason("", "10.1.200.7") == 'IP "10.1.200.7" is blocked: scraper'
    assert found.reason("wal", "10.2.200.7") is None
    assert found.reason("", "::1") is None


@pytest.mark.parametrize("line", ["waldo", "u=", "ip=10.1.2", "ip=a.b.c.d", "x=1.2.3.4"])
def test_a_wrong_line_is_named(line):
    with pytest.raises(InvalidRequest, match="list, line 2"):
        parse(["u=a", line], "list")


def test_a_missing_list_is_an_error_and_no_list_is_none(tmp_path):
    with pytest.raises(InvalidRequest, match="cannot be read"):
        load(tmp_path / "nothing")
    assert load(None).reason("anybody", "1.2.3.4") is None


@pytest.mark.parametrize(
    ("forwarded", "forwarded_for", "address"),
    [
        ("", "", "9.9.9.9"),
        ("", "1.2.3.4, 5.6.7.8", "1.2.3.4"),
        ("for=1.1.1.1:80;proto=http, for=2.2.2.2", "3.3.3.3", "1.1.1.1"),
        ('for="[2001:db8::1]:80"', "", "2001:db8::1"),
        ("proto=http", "", "9.9.9.9"),
    ],
)
def test_the_client_is_who_the_proxy_says(forwarded, forwarded_for, address):
    assert client_address(forwarded, forwarded_for, "9.9.9.9") == address


def test_blocked_clients_get_429_until_the_list_is_read_again(run_server, tmp_path):
    path = tmp_path / "blocked"
    path.write_text("u=waldo,too fast\nip=10.*.*.*,no\n")
    settings = Settings(data=tmp_path / "data", block_list_file=path, admin_token="secret")
    with run_server(settings) as live:
        answer = live.call("GET", "/api/repos/info?u=waldo")
        assert (answer.status, answer.body) == (429, b'User "waldo" is blocked: too fast\n')
        far = {"X-Forwarded-For": "10.1.2.3"}
        assert live.call("GET", "/api/repos/info", headers=far).status == 429
        assert live.call("GET", "/api/heartbeat?u=waldo").status == 200
        assert live.call("GET", "/api/repos/info?u=other").status == 200
        path.write_text("nonsense\n")
        reload = "/api/server/reload-blocklist?admintoken=secret"
        assert live.call("POST", reload).status == 400
        assert live.call("GET", "/api/repos/info?u=waldo").status == 429, "the old list stays"
        path.write_text("u=other\n")
        assert str(path) in live.ok("POST", reload).text
        assert live.call("GET", "/api/repos/info?u=waldo").status == 200
        assert live.call("GET", "/api/repos/info?u=other").status == 429
