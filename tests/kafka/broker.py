"""One real Kafka broker on the loopback: KRaft, its own controller, jars from Maven.

The jars come through `mvn`, as any Java project gets its own, into a cache folder, and are checked against
jars.sha256. Where there is no Java, no Maven, or no way to the jars, `missing` says so.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

HERE = Path(__file__).parent
VERSION = "4.1.2"
START_SECONDS = 120

_LOGGING = """
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c: %m%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
"""


def cache_folder() -> Path:
    given = os.environ.get("DVID_ES_TEST_CACHE")  # noqa: TID251 - tests are told where to keep jars
    base = Path(given) if given else Path.home() / ".cache" / "dvid-es-tests"
    return base / f"kafka-{VERSION}"


@functools.cache
def missing() -> str:
    """Get the jars; say why a broker cannot be had, or nothing if it can."""
    if shutil.which("java") is None:
        return "there is no java"
    folder = cache_folder()
    if not wrong_jars(folder):
        return ""
    if shutil.which("mvn") is None:
        return "there is no mvn to get the jars with"
    folder.mkdir(parents=True, exist_ok=True)
    got = subprocess.run(
        [
            "mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies",
            f"-DoutputDirectory={folder}", "-DincludeScope=runtime",
        ],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    if got.returncode:
        return f"mvn could not get the jars: {got.stdout[-300:]}"
    wrong = wrong_jars(folder)
    return f"these jars are missing or not the known ones: {wrong}" if wrong else ""


def wrong_jars(folder: Path) -> list[str]:
    """Names of jars that are not there or not what they were when the list was made."""
    found = []
    for line in (HERE / "jars.sha256").read_text().splitlines():
        digest, name = line.split()
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            found.append(name)
    return found


def free_port(first: int = 19000, stop: int = 19100) -> int:
    """A port below those that the system gives to clients, so that a restart finds it free."""
    for port in range(first, stop):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


class Broker:
    """A broker that can be killed, paused and started again on the same data."""

    def __init__(
        self,
        folder: Path,
        advertised_port: int | None = None,
        protocol: str = "PLAINTEXT",
        **properties: str,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.controller_port = free_port(self.port + 1)
        self.advertised_port = advertised_port or self.port
        self.process: subprocess.Popen[str] | None = None
        folder.mkdir(parents=True)
        (folder / "log4j2.properties").write_text(_LOGGING)
        given = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"{protocol}://127.0.0.1:{self.port},"
            f"CONTROLLER://127.0.0.1:{self.controller_port}",
            "security.inter.broker.protocol": protocol,
            "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,{protocol}:{protocol}",
            "advertised.listeners": f"{protocol}://127.0.0.1:{self.advertised_port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(folder / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "num.network.threads": "1",
            "num.io.threads": "2",
            **properties,
        }
        text = "".join(f"{name}={value}\n" for name, value in given.items())
        (folder / "server.properties").write_text(text)
        # A name that begins with "-" would be taken for an option.
        cluster = base64.urlsafe_b64encode(b"k" + os.urandom(15)).decode().rstrip("=")
        self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c")

    @property
    def servers(self) -> tuple[str, ...]:
        return (f"127.0.0.1:{self.port}",)

    def _command(self, main: str, *words: str) -> list[str]:
        return [
            "java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
            "-cp", f"{cache_folder()}/*", main, *words, str(self.folder / "server.properties"),
        ]  # fmt: skip

    def _java(self, main: str, *words: str) -> None:
        ran = subprocess.run(
            self._command(main, *words), check=False, capture_output=True, text=True, timeout=120
        )
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]

    def start(self) -> None:
        """Start and wait until it says that it is ready."""
        self.process = process = subprocess.Popen(
            self._command("kafka.Kafka"), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        ready = threading.Event()
        self.started = False
        assert process.stdout is not None
        lines = process.stdout

        def read() -> None:
            with (self.folder / "broker.log").open("a") as kept, lines:
                for line in lines:
                    kept.write(line)
                    kept.flush()
                    if "Kafka Server started" in line:
                        self.started = True
                        ready.set()
            ready.set()  # it has ended

        threading.Thread(target=read, daemon=True).start()
        if not ready.wait(START_SECONDS) or not self.started:
            self.kill()
            raise AssertionError((self.folder / "broker.log").read_text()[-2000:])

    def _signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a crash of the process."""
        self._signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(30)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
