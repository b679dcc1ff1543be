"""The results as a table for people and as JSON for programs."""

import platform
from collections.abc import Sequence
from typing import Any

from dvid_es.bench import process
from dvid_es.bench.figures import Summary
from dvid_es.bench.runner import Result
from dvid_es.bench.target import Target
from dvid_es.bench.volume import Segmentation

FORMAT = 1
"""Version of the JSON; a field is only ever added within one."""


def as_json(
    results: Sequence[Result],
    targets: Sequence[Target],
    volume: dict[str, Any],
    load_before: float | None = None,
) -> dict[str, Any]:
    """Return everything that was measured as plain JSON values.

    Args:
        results: of all workloads.
        targets: the servers, `base` first.
        volume: what is said about the data.
        load_before: the machine's load average when the bench began.
    """
    return {
        "format": FORMAT,
        "machine": {
            "system": platform.platform(),
            "processors": process.processors(),
            "python": platform.python_version(),
            "load_before": load_before,
        },
        "volume": volume,
        "servers": {one.name: _server(one) for one in targets},
        "workloads": [_workload(result) for result in results],
        "agrees": not any(result.problems for result in results),
    }


def about(data: Segmentation) -> dict[str, Any]:
    """Return what is said about the data in the JSON."""
    return {
        "source": data.name,
        "shape_xyz": list(data.shape_zyx[::-1]),
        "blocks": len(data.blocks),
        "stream_bytes": len(data.stream),
        "supervoxels": len(data.present),
        "bodies": len(data.members),
    }


def as_table(results: Sequence[Result], names: Sequence[str]) -> str:
    """Return the results as aligned text, a line for each workload.

    Args:
        results: of all workloads.
        names: of the servers, `base` first.
    """
    compares = len(names) > 1
    head = ["workload", "unit"]
    for name in names:
        head += [name, "min .. max", "CPU ms/op"]
    head += ["ratio", "CPU ratio", "must", "goal", "reaches"] if compares else ["must", "goal"]
    rows = [_row(result, names, compares) for result in results]
    text = _align([head, *rows])
    if any(one.is_client_bound for result in results for one in result.summaries.values()):
        text += "\n* the client was busy nearly all the time: the server may be faster than this"
    problems = [f"{result.name}: {text}" for result in results for text in result.problems]
    if problems:
        text += "\n\nDIFFERENT:\n" + "\n".join(f"  {problem}" for problem in problems)
    else:
        text += "\n\nAll answers were right" + (" and equal." if compares else ".")
    return text


def _row(result: Result, names: Sequence[str], compares: bool) -> list[str]:
    row = [result.name, result.unit]
    for name in names:
        summary = result.summaries.get(name)
        row += _cells(summary) if summary else ["failed", "", ""]
    bar = result.bar
    bars = [f"{bar.must:g}x", f"{bar.goal:g}x"] if bar else ["", ""]
    if not compares:
        return row + bars
    times, cpu = result.ratio, result.cpu_ratio
    verdict = bar.verdict(times) if bar and times is not None else ""
    row += ["" if times is None else f"{times:.2f}x", "" if cpu is None else f"{cpu:.2f}x"]
    return row + bars + ["WRONG" if result.problems else verdict]


def _cells(summary: Summary) -> list[str]:
    mark = "*" if summary.is_client_bound else ""
    cpu = "" if summary.cpu_ms is None else _number(summary.cpu_ms)
    span = f"{_number(summary.low)} .. {_number(summary.high)}"
    return [_number(summary.median) + mark, span, cpu]


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _align(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _server(target: Target) -> dict[str, Any]:
    return {
        "url": f"http://{target.address.netloc}",
        "version": target.about.get("DVID Version"),
        "store": target.about.get("Storage backend"),
        "repository": target.root,
        "pid": target.pid,
        "memory_bytes": None if target.pid is None else process.memory_bytes(target.pid),
    }


def _workload(result: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "title": result.title,
        "unit": result.unit,
        "must": result.bar.must if result.bar else None,
        "goal": result.bar.goal if result.bar else None,
        "ratio": result.ratio,
        "cpu_ratio": result.cpu_ratio,
        "reaches": (
            result.bar.verdict(result.ratio) if result.bar and result.ratio is not None else None
        ),
        "servers": {name: _summary(one) for name, one in result.summaries.items()},
        "problems": result.problems,
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "median": summary.median,
        "min": summary.low,
        "max": summary.high,
        "repeats": summary.repeats,
        "operations": summary.operations,
        "cpu_ms_per_operation": summary.cpu_ms,
        "cpu_seconds": summary.cpu_s,
        "client_share": summary.client_share,
        "client_bound": summary.is_client_bound,
    }
