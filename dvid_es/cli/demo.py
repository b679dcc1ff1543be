"""`serve --demo`: a small segmentation with history, made through the API, and what to try on it."""

import json
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.bench.synthetic import voronoi
from dvid_es.cli.client import Client

ALIAS = "demo"
SIZE = 128
"""Voxels along each axis."""


class Demo(NamedTuple):
    """What the printed lines need to know."""

    url: str
    root: str
    """UUID of the committed first version."""

    child: str
    """UUID of its open child on master."""

    body: int
    point_xyz: str
    """A voxel that is in `body` at the child, and was a body of its own at the root."""

    free: tuple[int, int]
    """Two bodies that the reader may merge."""


def make_demo(url: str) -> str:
    """Make the demonstration on the server at `url`, unless it is there, and return what to try.

    Raises:
        InvalidRequest: the server refused a step.
    """
    client = Client(url)
    for root, info in client.json("GET", "/api/repos/info").items():
        if info["Alias"] == ALIAS:
            kept = client.call("GET", f"/api/node/{root}:master/notes/key/demo")
            return what_to_try(Demo(url, *json.loads(kept)))
    demo = _make(client)
    return what_to_try(demo)


def _make(client: Client) -> Demo:
    voxels = voronoi(SIZE, seed=7)
    body, early, late, other, *free = _neighbourhood(voxels)
    point_xyz = "_".join(map(str, np.argwhere(voxels == late)[0][::-1]))
    root = client.json("POST", "/api/repos", {"alias": ALIAS, "description": "made by --demo"})[
        "root"
    ]
    for typename, name in (("labelmap", "segmentation"), ("keyvalue", "notes")):
        settings = {"typename": typename, "dataname": name, "MaxDownresLevel": "2"}
        client.json("POST", f"/api/repo/{root}/instance", settings)
    at_root = f"/api/node/{root}"
    box = f"raw/0_1_2/{SIZE}_{SIZE}_{SIZE}/0_0_0"
    client.call("POST", f"{at_root}/segmentation/{box}", voxels.tobytes())
    _merge(client, root, body, early)
    client.call("POST", f"{at_root}/notes/key/reviewer", b'{"name": "Ada", "state": "started"}')
    client.json("POST", f"{at_root}/commit", {"note": "as segmented"})
    child = client.json("POST", f"{at_root}/newversion", {"note": "proofreading"})["child"]
    branch = client.json("POST", f"{at_root}/branch", {"branch": "experiment"})["child"]
    _merge(client, child, body, late)
    client.json("POST", f"/api/node/{child}/segmentation/cleave/{body}?u=demo", [early])
    client.call(
        "POST", f"/api/node/{child}/notes/key/reviewer", b'{"name": "Ada", "state": "done"}'
    )
    _merge(client, branch, body, other)
    demo = Demo(client.url, root, child, body, point_xyz, (free[0], free[1]))
    # The next start finds this in the newest version of master.
    client.call("POST", f"/api/node/{child}/notes/key/demo", json.dumps(demo[1:]).encode())
    return demo


def _merge(client: Client, uuid: str, target: int, *merged: int) -> None:
    client.json("POST", f"/api/node/{uuid}/segmentation/merge?u=demo", [target, *merged])


def _neighbourhood(voxels: NDArray[np.uint64]) -> list[int]:
    """Return the label in the middle, three that touch it, and two that do not."""
    middle = int(voxels[SIZE // 2, SIZE // 2, SIZE // 2]) or int(voxels.max())
    pairs: set[int] = set()
    for axis in range(3):
        a = voxels.swapaxes(0, axis)[:-1]
        b = voxels.swapaxes(0, axis)[1:]
        pairs.update(map(int, np.unique(b[a == middle])))
        pairs.update(map(int, np.unique(a[b == middle])))
    touching = sorted(pairs - {0, middle})
    assert len(touching) >= 3
    far = [int(label) for label in np.unique(voxels) if int(label) not in (pairs | {0, middle})]
    return [middle, *touching[:3], *far[:2]]


def curl_lines(demo: Demo) -> list[tuple[str, str]]:
    """Return pairs of what a line shows and the line."""
    node = f"{demo.url}/api/node"
    old, new = f"{node}/{demo.root}/segmentation", f"{node}/{demo.child}/segmentation"
    point, (target, merged) = demo.point_xyz, demo.free
    return [
        ("the body at a voxel, in the committed version", f"curl -s {old}/label/{point}"),
        ("the same voxel after proofreading", f"curl -s {new}/label/{point}"),
        ("the supervoxels of a body", f"curl -s {new}/supervoxels/{demo.body}"),
        ("its voxels", f"curl -s {new}/size/{demo.body}"),
        ("merge two bodies", f"curl -s -X POST {new}/merge?u=me -d '[{target}, {merged}]'"),
        ("what was done in this version", f"curl -s {new}/mutations"),
        (
            "what a merge would do",
            f"curl -s -X POST '{new}/merge?dryrun=true' -d '[{demo.body}, {target}]'",
        ),
        ("a value, then and now", f"curl -s {node}/{demo.root}/notes/key/reviewer"),
        ("", f"curl -s {node}/{demo.child}/notes/key/reviewer"),
        ("all versions and instances", f"curl -s {demo.url}/api/repo/{demo.root}/info"),
    ]


def python_lines(demo: Demo) -> list[str]:
    """Return lines of Python to paste; they need numpy."""
    return [
        "import urllib.request, numpy",
        f'url = "{demo.url}/api/node/{demo.child}/segmentation"',
        'answer = urllib.request.urlopen(url + "/raw/0_1_2/64_64_64/0_0_0")',
        'voxels_zyx = numpy.frombuffer(answer.read(), "<u8").reshape(64, 64, 64)',
        'print(len(numpy.unique(voxels_zyx)), "bodies, as of event", answer.headers["X-DVID-ES-Seq"])',
    ]


def what_to_try(demo: Demo) -> str:
    """Return the text that a new user reads."""
    lines = ["", "A small segmentation with two versions and a branch is there. Try:", ""]
    for shows, line in curl_lines(demo):
        if shows:
            lines.append(f"  # {shows}")
        lines.append(f"  {line}")
    lines += ["", "and in Python:", "", *(f"  {line}" for line in python_lines(demo)), ""]
    lines.append("Then stop the server as rudely as you like, start it again, and look again.")
    return "\n".join(lines)
