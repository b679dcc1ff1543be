from dvid_es.settings import Settings


def test_files_of_a_web_client_are_served_and_nothing_beside_them(run_server, tmp_path):
    web = tmp_path / "web"
    (web / "js").mkdir(parents=True)
    (web / "index.html").write_text("<p>client</p>")
    (web / "js" / "a.js").write_text("run()")
    (tmp_path / "secret.txt").write_text("hidden words")
    (web / "out").symlink_to(tmp_path / "secret.txt")
    settings = Settings(data=tmp_path / "data", web_client=web)
    with run_server(settings) as live:
        assert live.ok("GET", "/").body == b"<p>client</p>"
        assert live.ok("GET", "/js/a.js").body == b"run()"
        assert "javascript" in live.ok("GET", "/js/a.js").headers["content-type"]
        assert live.ok("HEAD", "/js/a.js").body == b""
        assert live.ok("GET", "/api/heartbeat").text == "OK"
        for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/js/..%2f..%2fsecret.txt", "/out",
                     "/%2Fetc%2Fpasswd", "/nothing", "/js", "/a%00b"):  # fmt: skip
            answer = live.call("GET", path)
            assert answer.status in (307, 404), path
            assert b"hidden" not in answer.body
        assert live.call("POST", "/js/a.js", b"x").status == 404


def test_a_missing_file_may_be_the_default_one_or_elsewhere(run_server, tmp_path):
    web = tmp_path / "web"
    web.mkdir()
    (web / "app.html").write_text("<p>app</p>")
    more = {"data": tmp_path / "data", "web_client": web, "web_default_file": "app.html"}
    with run_server(Settings(**more)) as live:
        assert live.ok("GET", "/some/route").body == b"<p>app</p>"
    with run_server(Settings(**more, web_redirect_path="/api/help")) as live:
        answer = live.call("GET", "/some/route")
        assert (answer.status, answer.headers["location"]) == (308, "/api/help")
