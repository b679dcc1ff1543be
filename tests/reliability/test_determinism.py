"""Rebuilt = live, byte for byte: random histories, replayed in three ways and in another process."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from dvid_es.bootstrap import row_kinds
from dvid_es.clock import FixedClock
from dvid_es.codecs import messages_pb2 as messages
from dvid_es.codecs import tar
from dvid_es.events import Record
from dvid_es.projections.store import Store
from dvid_es.projections.txn import WriteTxn
from dvid_es.replay import snapshot
from dvid_es.replay.catchup import catch_up
from dvid_es.replay.digest import Part, digests
from dvid_es.replay.places import Places
from dvid_es.settings import Settings
from tests.conftest import Live, running
from tests.datatypes.labelarray.label_model import coarse_body
from tests.datatypes.labelmap.split_cases import blob_of
from tests.servers import dvid_es

SIDE = 64


class History:
    """Random requests to one repository; the server may refuse any of them, but never with a 5xx."""

    def __init__(self, live: Live, seed: int, voxels: bool) -> None:
        self.live = live
        self.dice = random.Random(seed)
        self.voxels = voxels
        self.root = live.new_repo(alias=f"history {seed}")
        self.versions = [self.root]
        self.kv = [live.new_instance(self.root, "keyvalue", "kv").rpartition("/")[2]]
        live.new_instance(self.root, "roi", "area")
        live.new_instance(self.root, "annotation", "counted")
        live.new_instance(self.root, "labelsz", "sizes")
        live.new_instance(self.root, "neuronjson", "neurons")
        if self.voxels:
            live.new_instance(self.root, "labelmap", "seg", MaxDownresLevel="1")
            live.new_instance(self.root, "tarsupervoxels", "meshes", Extension="drc")
            live.new_instance(self.root, "uint8blk", "grey", BlockSize="8,8,8")
            live.new_instance(self.root, "imagetile", "tiles")
            for typename, name in (("labelarray", "arr"), ("labelblk", "blk"), ("labelvol", "vol")):
                live.new_instance(self.root, typename, name, BlockSize="32,32,32")
            for name, other in (("blk", "vol"), ("vol", "blk")):
                body = {"sync": other}
                live.ok("POST", f"/api/node/{self.root}/{name}/sync", json_body=body)
            for name in ("arr", "blk"):
                ones = np.ones((32, 32, 64), np.uint64).tobytes()
                live.ok("POST", f"/api/node/{self.root}/{name}/raw/0_1_2/64_32_32/0_0_0", ones)
        self.granted = 0

    def send(self, method: str, path: str, body: bytes | None = None, **more: object) -> int:
        headers = {}
        if self.dice.random() < 0.05:
            headers["Idempotency-Key"] = f"{self.dice.randrange(4)}"
        answer = self.live.call(method, path, body, headers=headers, u="kat", app="test")
        assert answer.status < 500, (method, path, answer)
        self.granted += answer.status == 200
        if answer.status == 200 and answer.body.startswith(b'{"child'):
            self.versions.append(answer.json()["child"])
        return answer.status

    def step(self) -> None:
        dice = self.dice
        node = f"/api/node/{dice.choice(self.versions)}"
        choices = [self.keyvalue] * 5 + [self.document, self.version, self.instance, self.region]
        choices += [self.annotation] * 2 + [self.elements] * 3 + [self.counts]
        if self.voxels:
            choices += [self.labels] * 6 + [self.meshes] * 2 + [self.grey] * 3 + [self.tiles]
            choices += [self.older_labels] * 5
        dice.choice(choices)(node)

    def keyvalue(self, node: str) -> None:
        dice = self.dice
        path = f"{node}/{dice.choice(self.kv)}/key/k{dice.randrange(12)}"
        if dice.random() < 0.2:
            self.send("DELETE", path)
        else:
            self.send("POST", path, dice.randbytes(dice.choice((0, 3, 400, 3000))))

    def region(self, node: str) -> None:
        dice = self.dice
        if dice.random() < 0.2:
            self.send("DELETE", f"{node}/area/roi")
        else:  # the longer ones go to the packs
            spans = [
                [dice.randrange(9), dice.randrange(9), 0, 3] for _ in range(dice.choice((0, 3, 90)))
            ]
            self.send("POST", f"{node}/area/roi", json.dumps(spans).encode())

    def counts(self, node: str) -> None:
        kind = self.dice.randrange(4)
        if kind == 0:
            self.send("POST", f"{node}/sizes/reload")
        elif kind == 1:
            self.send("POST", f"{node}/sizes/sync?replace=true", b'{"sync":""}')
        else:
            self.send("POST", f"{node}/sizes/sync", b'{"sync":"counted"}')

    def elements(self, node: str) -> None:
        """Elements of an annotation that counts follow, and that follows labels where there are any."""
        dice, path = self.dice, f"{node}/counted"

        def one() -> dict[str, object]:
            x, y, z = (dice.choice((1, 9, 40, 70)) for _ in range(3))
            rels = [{"Rel": "GroupedWith", "To": [9, 9, dice.choice((9, 70))]}]
            tags = dice.choice((None, [], ["t"], ["t", "u" * 500]))
            return {
                "Pos": [x, y, z],
                "Kind": "PreSyn",
                "Tags": tags,
                "Rels": dice.choice(([], rels)),
            }

        place, other = ("_".join(map(str, one()["Pos"])) for _ in range(2))  # type: ignore[call-overload]
        some = [one() for _ in range(dice.choice((1, 3, 20)))]
        kind = dice.randrange(12)
        if kind < 5:
            self.send("POST", f"{path}/elements", json.dumps(some).encode())
        elif kind < 7:
            self.send("POST", f"{path}/move/{place}/{other}")
        elif kind == 7:
            self.send("DELETE", f"{path}/element/{place}")
        elif kind == 8:
            blocks = {f"{dice.randrange(2)},0,0": some, "0,1,0": dice.choice((None, []))}
            self.send("POST", f"{path}/blocks", json.dumps(blocks).encode())
        elif kind == 9:
            lists = {str(dice.randrange(1, 30)): json.dumps(some)}
            self.send("POST", f"{path}/labels", json.dumps(lists).encode())
        elif kind == 10:
            self.send("POST", f"{path}/{dice.choice(('reload', 'reload', 'reload', 'delete-all'))}")
        else:
            replace, name = dice.choice((("", "seg"), ("", "seg"), ("?replace=true", "")))
            self.send("POST", f"{path}/sync{replace}", json.dumps({"sync": name}).encode())

    def document(self, node: str) -> None:
        what, body = self.dice.choice(
            [
                ("note", {"note": f"note {self.dice.random()}"}),
                ("log", {"log": ["a line", "another"]}),
                ("kv/tags", {"colour": f"{self.dice.random()}"}),
            ]
        )
        self.send("POST", f"{node}/{what}", json.dumps(body).encode())

    def version(self, node: str) -> None:
        dice = self.dice
        what, body = dice.choice(
            [
                ("commit", {"note": "done"}),
                ("newversion", {}),
                ("branch", {"branch": f"b{dice.randrange(5)}"}),
                ("tag", {"tag": f"{self.root[:6]}-t{dice.randrange(5)}"}),
            ]
        )
        self.send("POST", f"{node}/{what}", json.dumps(body).encode())

    def instance(self, node: str) -> None:
        uuid = node.rpartition("/")[2]
        name = f"kv{self.dice.randrange(4)}"
        body = {
            "typename": "keyvalue",
            "dataname": name,
            "versioned": self.dice.choice(("true", "false")),
        }
        if self.send("POST", f"/api/repo/{uuid}/instance", json.dumps(body).encode()) == 200:
            self.kv.append(name)

    def labels(self, node: str) -> None:
        dice = self.dice
        some = dice.sample(range(1, 30), 3)
        kind = dice.randrange(7)
        if kind == 0:
            cells = np.array([dice.choices(range(30), k=8) for _ in range(64)], np.uint64)
            volume = cells.reshape(8, 8, 8).repeat(8, 0).repeat(8, 1).repeat(8, 2)
            self.send(
                "POST",
                f"{node}/seg/raw/0_1_2/64_64_64/0_0_{64 * dice.randrange(2)}",
                volume.tobytes(),
            )
        elif kind in (1, 2):
            self.send("POST", f"{node}/seg/merge", json.dumps(some[:2]).encode())
        elif kind == 3:
            self.send("POST", f"{node}/seg/cleave/{some[0]}", json.dumps(some[1:2]).encode())
        elif kind == 4:
            self.send(
                "POST", f"{node}/seg/renumber", json.dumps([some[0] + 1000, some[1]]).encode()
            )
        elif kind == 5:
            mutation = json.dumps({"mutation": 1_000_000_000 + dice.randrange(20)}).encode()
            self.send("POST", f"{node}/seg/{dice.choice(('undo', 'redo'))}", mutation)
        else:
            self.send("POST", f"{node}/seg/nextlabel/{dice.randrange(1, 9)}")

    def older_labels(self, node: str) -> None:
        """Labels without supervoxels: a labelarray, and a labelvol that follows its labelblk."""
        dice = self.dice
        edited = f"{node}/{dice.choice(('arr', 'vol'))}"
        label, other = dice.sample((1, 2), 2)
        kind = dice.randrange(6)
        if kind < 2:
            cells = np.array([[dice.choice(((1, 1), (2, 1), (1, 2), (2, 2)))]], np.uint64)
            volume = cells.repeat(32, 0).repeat(32, 1).repeat(32, 2)
            name = dice.choice(("arr", "blk"))
            self.send("POST", f"{node}/{name}/raw/0_1_2/64_32_32/0_0_0", volume.tobytes())
        elif kind < 4:
            self.send("POST", f"{edited}/merge", json.dumps([label, other]).encode())
        elif kind == 4:
            self.send("POST", f"{edited}/split-coarse/{label}", coarse_body([(0, 0, 0)]))
        else:
            mask = np.zeros((32, 32, 64), bool)
            mask[: dice.randrange(1, 32), 3:20, 5:30] = True
            self.send("POST", f"{edited}/split/{label}", blob_of(mask))

    def tiles(self, node: str) -> None:
        dice = self.dice
        if dice.random() < 0.2:
            level = {"Resolution": [dice.choice((4, 8.5, 33.3)), 8, 8], "TileSize": [32, 32, 32]}
            body = json.dumps({"Levels": {"0": level}, "MaxTileCoord": [dice.randrange(9)]})
            self.send("POST", f"{node}/tiles/metadata", body.encode())
        else:
            place = f"{dice.choice(('xy', 'yz'))}/{dice.randrange(2)}/{dice.randrange(-1, 2)}_0_0"
            data = dice.randbytes(dice.choice((0, 3, 400, 3000)))
            self.send("POST", f"{node}/tiles/tile/{place}", data)

    def grey(self, node: str) -> None:
        dice = self.dice
        kind, x = dice.randrange(5), 8 * dice.randrange(-2, 3)
        if kind == 0:
            box = {"MinPoint": [x, 0, 0], "MaxPoint": [dice.randrange(50)]}
            self.send("POST", f"{node}/grey/extents", json.dumps(box).encode())
        elif kind == 1:
            sizes = [dice.choice((4, 8.5, 33.3)), 8, 8]
            self.send("POST", f"{node}/grey/resolution", json.dumps(sizes).encode())
        elif kind == 2:
            self.send("POST", f"{node}/grey/blocks/{x}_1_0/2", dice.randbytes(1024))
        else:
            body = bytes([dice.randrange(256)]) * 512 + dice.randbytes(512)
            self.send("POST", f"{node}/grey/raw/0_1_2/8_8_16/{x}_0_0", body)

    def annotation(self, node: str) -> None:
        dice = self.dice
        body, name = dice.randrange(1, 6), dice.choice("ab")
        value = {"bodyid": body, name: dice.choice((None, 1, [2, 3], "x" * 3000, {"c": 0.5}))}
        path = f"{node}/neurons"
        kind = dice.randrange(6)
        if kind == 0:
            self.send("DELETE", f"{path}/key/{body}")
        elif kind == 1:
            schema = {"properties": {"a": {"type": dice.choice(("integer", "string"))}}}
            self.send("POST", f"{path}/json_schema", json.dumps(schema).encode())
        elif kind == 2:
            name = dice.choice(("schema", "json_schema", "key/schema"))
            self.send(dice.choice(("POST", "DELETE")), f"{path}/{name}", b"y" * 3000)
        elif kind == 3:
            message = messages.KeyValues()
            for key in (body, body + 1, body):
                text = json.dumps({**value, "bodyid": key}).encode()
                message.kvs.add(key=str(key), value=text)
            self.send("POST", f"{path}/keyvalues", message.SerializeToString())
        else:
            how = dice.choice(("", "?replace=true", "?conditional=a"))
            self.send("POST", f"{path}/key/{body}{how}", json.dumps(value).encode())

    def meshes(self, node: str) -> None:
        dice = self.dice
        kind, blob = dice.randrange(5), dice.randbytes(dice.choice((0, 3, 400, 3000)))
        if kind == 0:
            self.send("DELETE", f"{node}/meshes/supervoxel/{dice.randrange(1, 30)}")
        elif kind == 1:
            extension = json.dumps({"Extension": dice.choice(("drc", "obj"))}).encode()
            self.send("POST", f"{node}/meshes/info", extension)
        elif kind == 2:
            self.send("POST", f"{node}/meshes/sync", b'{"sync":"seg"}')
        elif kind == 3:
            files = [(f"{dice.randrange(1, 30)}.drc", blob), ("7.drc", b"seven")]
            self.send("POST", f"{node}/meshes/load", b"".join(tar.write(files)))
        else:
            self.send("POST", f"{node}/meshes/supervoxel/{dice.randrange(1, 30)}", blob)


def write_histories(live: Live, count: int, steps: int, seed: int) -> None:
    histories = [History(live, seed + n, voxels=n % 5 == 0) for n in range(count)]
    dice = random.Random(seed)
    taken = False
    for number in range(count * steps):
        dice.choice(histories).step()
        if not taken and number == count * steps // 2:
            places = Places(live.engine.store.folder.parent)
            assert snapshot.take(places, row_kinds(), 1, store=live.engine.store)
            taken = True
    assert sum(history.granted for history in histories) > count * steps // 4


def of_store(folder: Path) -> list[Part]:
    store = Store(folder, read_only=True)
    try:
        return digests(store, row_kinds())
    finally:
        store.close()


def reopened(settings: Settings) -> list[Part]:
    with running(settings, FixedClock()):
        pass
    return of_store(settings.data / "projections")


def check(settings: Settings, count: int, steps: int, seed: int = 1) -> None:
    with running(settings, FixedClock()) as live:
        write_histories(live, count, steps, seed)
    projections = settings.data / "projections"
    live_parts = of_store(projections)
    assert len({part.root for part in live_parts}) == count

    shutil.move(projections, settings.data / "live")
    from_snapshot = reopened(settings)
    assert from_snapshot == live_parts

    shutil.rmtree(projections)
    shutil.rmtree(settings.data / "snapshots")
    from_log = reopened(settings)
    assert from_log == live_parts

    done = dvid_es("rebuild", "--data", settings.data, "--into", settings.data / "other")
    assert done.returncode == 0, done.stderr
    assert of_store(settings.data / "other") == live_parts


def test_random_histories_are_rebuilt_equal(settings: Settings) -> None:
    check(settings, count=200, steps=15)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100))
def test_many_random_histories_are_rebuilt_equal(settings: Settings, seed: int) -> None:
    check(settings, count=1000, steps=60, seed=1000 * seed)


def test_the_recipe_catches_a_fold_that_depends_on_more_than_its_event(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvid_es.projections.projector import Projector

    dice = random.Random(5)
    apply = Projector.apply

    def impure(self: Projector, txn: WriteTxn, record: Record) -> None:
        apply(self, txn, record)
        txn.put(b"\0\0\0\1\x20planted", dice.randbytes(4))

    monkeypatch.setattr(Projector, "apply", impure)
    with pytest.raises(AssertionError):
        check(settings, count=3, steps=10)


def test_a_store_caught_up_in_another_process_by_a_server_is_equal(settings: Settings) -> None:
    with running(settings, FixedClock()) as live:
        write_histories(live, count=10, steps=20, seed=77)
        streams = live.engine.streams.all()
        aside = Store(settings.data / "aside")
        catch_up(aside, streams, live.engine.projector)
        assert digests(aside, row_kinds()) == digests(live.engine.store, row_kinds())
        aside.close()
    done = dvid_es("verify", "--data", settings.data)
    assert done.returncode == 0, done.stdout + done.stderr
