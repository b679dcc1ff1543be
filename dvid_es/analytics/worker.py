"""The process that runs queries: `python -m dvid_es.analytics.worker`, one query after the other.

A process of its own, because nothing else holds a query to its limits: string functions of DuckDB
allocate outside of its memory limit and do not notice an interrupt. The system refuses this process
memory above the limit and ends it at the time limit, and whoever waits no more kills it. It is given paths,
not rights: its environment is empty, and DuckDB's access to anything but the listed files is off and locked.

Requests and answers are framed by their lengths (u32 and JSON; of answers also u64 and the body).
"""

import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import msgspec
import pyarrow as pa

from dvid_es.analytics import guard
from dvid_es.analytics.answers import FORMATS
from dvid_es.analytics.replies import Reply
from dvid_es.analytics.views import Ask, state_name, statements
from dvid_es.errors import DvidError, InvalidRequest

BASE_BYTES = 768 << 20
"""Private memory that the interpreter, its libraries and the answer need besides the query's."""

BATCH_ROWS = 65_536
_LENGTH = struct.Struct("<I")
_BODY = struct.Struct("<Q")


def connect(ask: Ask) -> duckdb.DuckDBPyConnection:
    """Return a database in memory that sees our views and nothing else, and cannot be changed."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": ask.threads,
            "memory_limit": f"{ask.memory_bytes}B",
            "temp_directory": "",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "preserve_insertion_order": False,
        },
    )
    paths = [f"{ask.folder}/{name}" for name in (*ask.events, *ask.labels, *ask.daily)]
    connection.execute("SET allowed_paths = ?", [paths])
    for view, files in (("_tail_events", ask.tail_events), ("_tail_labels", ask.tail_labels)):
        connection.register(view, _mapped(files))
    for name, file in ask.tables.items():
        connection.register(name, _mapped([file]))
    for function, versions in ask.states.items():
        for number, files in enumerate(versions.values()):
            for place, file in enumerate(files):
                connection.register(state_name(function, number, place), _mapped([file]))
    for statement in statements(ask):
        connection.execute(statement)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _mapped(files: list[str]) -> pa.Table:
    """Return Arrow files where they lie, one behind the other."""
    tables = []
    for file in files:
        with pa.memory_map(file) as source:
            tables.append(pa.ipc.open_file(source).read_all())
    return pa.concat_tables(tables)


def answer(ask: Ask, parser: duckdb.DuckDBPyConnection) -> tuple[Reply, bytes]:
    """Return the answer to one query.

    Args:
        ask: the query and what it sees.
        parser: any connection, which reads the text and runs nothing of it.

    Raises:
        InvalidRequest: it is refused, wrong, or beyond a limit.
    """
    checked = guard.check(parser, ask.sql)
    missing = {
        name: [version for version in versions if version not in ask.states.get(name, {})]
        for name, versions in checked.states.items()
    }
    missing = {name: versions for name, versions in missing.items() if versions}
    if missing:
        return Reply(needs=missing), b""
    connection = connect(ask)
    try:
        table = _run(connection, checked.sql, ask)
        return Reply(rows=table.num_rows), FORMATS[ask.format](table, ask.seq)
    except duckdb.Error as problem:
        raise InvalidRequest(_shown(problem, ask)) from None
    except (MemoryError, pa.ArrowMemoryError):
        raise InvalidRequest(_too_much_memory(ask)) from None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, msgspec.MsgspecError) as problem:
        raise InvalidRequest(f"the result cannot be written as {ask.format}: {problem}") from None
    finally:
        connection.close()


def _run(connection: duckdb.DuckDBPyConnection, sql: str, ask: Ask) -> pa.Table:
    """Return the result, read piece by piece so that one without end is noticed."""
    relation = (
        connection.sql(sql)
        if ask.parameters is None
        else connection.sql(sql, params=ask.parameters)
    )
    reader = relation.to_arrow_reader(BATCH_ROWS)
    batches, size = [], 0
    for batch in reader:
        size += batch.nbytes
        if size > ask.result_bytes:
            raise InvalidRequest(
                f"the result is larger than {ask.result_bytes >> 20} MiB: aggregate, or add a LIMIT"
            )
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


def _shown(problem: duckdb.Error, ask: Ask) -> str:
    if isinstance(problem, duckdb.OutOfMemoryException):
        return _too_much_memory(ask)
    text = str(problem).strip().split("\n\nPossible solutions")[0]
    return text.replace(ask.folder, "...")


def _too_much_memory(ask: Ask) -> str:
    return f"the query needs more than {ask.memory_bytes >> 20} MiB of memory: narrow it"


def serve(source: BinaryIO, out: BinaryIO) -> None:
    """Answer requests until there are no more, or this process has grown."""
    parser = duckdb.connect(":memory:", config={"threads": 1})
    while head := source.read(_LENGTH.size):
        ask = msgspec.json.decode(source.read(_LENGTH.unpack(head)[0]), type=Ask)
        limit_memory(ask.memory_bytes)
        signal.setitimer(signal.ITIMER_REAL, ask.seconds)  # its default action ends the process
        body = b""
        try:
            reply, body = answer(ask, parser)
        except DvidError as problem:
            reply = Reply(error=str(problem) or type(problem).__name__)
        except MemoryError:
            reply = Reply(error=_too_much_memory(ask))
        signal.setitimer(signal.ITIMER_REAL, 0)
        leaving = resident_bytes() > ask.memory_bytes
        head = msgspec.json.encode(msgspec.structs.replace(reply, leaving=leaving))
        for piece in (_LENGTH.pack(len(head)), head, _BODY.pack(len(body)), body):
            out.write(piece)
        out.flush()
        if leaving:
            return


def limit_memory(query_bytes: int) -> None:
    """Let the system refuse private memory beyond what a query may have."""
    if sys.platform != "linux":
        return  # elsewhere the limit does not count mapped memory
    limit = query_bytes + BASE_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def resident_bytes() -> int:
    """Return the memory that this process occupies now; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main(*_: Any) -> None:
    """Serve standard input and output."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get into the answers
    serve(sys.stdin.buffer, out)


if __name__ == "__main__":
    main()
