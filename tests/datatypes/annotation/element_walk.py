"""Random edits of elements and of the labels under them, over versions, beside a plain model."""

from __future__ import annotations

import copy
import json
from typing import Any

from tests.datatypes.labelmap.edit_walk import ALL_KINDS, SHAPE, Walk

Position = tuple[int, int, int]
Elements = dict[Position, dict[str, Any]]

KINDS = ("Unknown", "PostSyn", "PreSyn", "Gap", "Note")
RELATIONS = ("UnknownRelationship", "PostSynTo", "PreSynTo", "ConvergentTo", "GroupedWith")
SIDE = 32
TAGS = ("a", "b", "a b", "user:ann", "\u00fc", "<&>", "long" * 150, "long" * 150 + "er")

ELEMENT_KINDS = {"post": 8, "delete": 3, "move": 4, "post_blocks": 1, "reload": 1, "undo": 1}


def block_of(position: Position) -> str:
    return ",".join(str(c // SIDE) for c in position)


def in_order(elements: Any) -> list[dict[str, Any]]:
    """Elements by z, y, x, with their tags and relationships in order."""
    found = []
    for element in elements:
        one = {"Rels": None, **element}
        one["Tags"] = sorted(one["Tags"] or [])
        one["Prop"] = one["Prop"] or {}
        one["Rels"] = sorted(one["Rels"] or [], key=lambda rel: (rel["To"], rel["Rel"]))
        found.append(one)
    return sorted(found, key=lambda one: one["Pos"][::-1])


def plain(elements: Any) -> list[dict[str, Any]]:
    """The same without relationships."""
    found = in_order(elements)
    for one in found:
        del one["Rels"]
    return found


class ElementWalk(Walk):
    """Adds an annotation that follows the labelmap."""

    def __init__(self, live: Any, seed: int, *, versions: int = 4) -> None:
        self.elements: dict[str, Elements] = {}
        super().__init__(live, seed, versions=versions)
        self.elements[self.root] = {}
        live.new_instance(self.root, "annotation", "syn")
        live.ok("POST", f"/api/node/{self.root}/syn/sync", json_body={"sync": "seg"})

    def syn(self, uuid: str) -> str:
        return f"/api/node/{uuid}/syn"

    def step(self, kinds: dict[str, int]) -> None:
        if self.rng.random() < 0.4:
            made = len(self.edits)
            super().step(ALL_KINDS)
            if len(self.edits) > made and self.edits[-1].kind == "mappings":
                self.live.ok("POST", f"{self.syn(self.edits[-1].version)}/reload")
        else:
            uuid = self.open[self.rng.integers(len(self.open))]
            names = [name for name, count in ELEMENT_KINDS.items() for _ in range(count)]
            getattr(self, f"do_{self.rng.choice(names)}")(uuid, self.elements[uuid])

    def version(self, uuid: str, model: Any) -> None:
        before = set(self.models)
        super().version(uuid, model)
        for child in set(self.models) - before:
            self.elements[child] = copy.deepcopy(self.elements[uuid])

    # -- edits of elements ------------------------------------------------------------------

    def somewhere(self) -> Position:
        z, y, x = (int(self.rng.integers(-4, side + 4)) for side in SHAPE)
        return x, y, z

    def one_of(self, elements: Elements) -> Position | None:
        if not elements or self.rng.random() < 0.1:
            return None
        return list(elements)[int(self.rng.integers(len(elements)))]

    def element(self, elements: Elements) -> dict[str, Any]:
        rng = self.rng
        position = self.one_of(elements) if rng.random() < 0.3 else None
        tags = [str(tag) for tag in rng.choice(TAGS, int(rng.integers(3)), replace=False)]
        rels = [
            {
                "Rel": str(rng.choice(RELATIONS)),
                "To": list(self.one_of(elements) or self.somewhere()),
            }
            for _ in range(int(rng.integers(3)))
        ]
        made = {
            "Pos": list(position or self.somewhere()),
            "Kind": str(rng.choice(KINDS)),
            "Tags": tags,
            "Prop": {f"k{n}": f"v<{rng.integers(9)}" for n in range(int(rng.integers(3)))},
            "Rels": rels,
        }
        for name in ("Tags", "Prop", "Rels"):
            if rng.random() < 0.1:
                made[name] = None
        return made

    def do_post(self, uuid: str, elements: Elements) -> None:
        made = [self.element(elements) for _ in range(int(self.rng.integers(1, 6)))]
        off = "?kafkalog=off" if self.rng.random() < 0.5 else ""
        self.live.ok("POST", f"{self.syn(uuid)}/elements{off}", json_body=made)
        elements.update({tuple(one["Pos"]): copy.deepcopy(one) for one in made})

    def do_delete(self, uuid: str, elements: Elements) -> None:
        position = self.one_of(elements)
        x, y, z = position or (5000, 1, 1)
        answer = self.live.call("DELETE", f"{self.syn(uuid)}/element/{x}_{y}_{z}")
        assert answer.status == (400 if position is None else 200), answer.body
        if position is not None:
            del elements[position]
            self.redirect(elements, position, None)

    def do_move(self, uuid: str, elements: Elements) -> None:
        source = self.one_of(elements)
        target = (self.one_of(elements) if self.rng.random() < 0.2 else None) or self.somewhere()
        (x, y, z), (i, j, k) = source or (5000, 1, 1), target
        answer = self.live.call("POST", f"{self.syn(uuid)}/move/{x}_{y}_{z}/{i}_{j}_{k}")
        assert answer.status == (400 if source is None else 200), answer.body
        if source is not None and source != target:
            moved = elements.pop(source)
            moved["Pos"] = list(target)
            elements[target] = moved
            self.redirect(elements, source, target)

    def redirect(self, elements: Elements, source: Position, target: Position | None) -> None:
        for element in elements.values():
            rels = element["Rels"] or []
            if any(tuple(rel["To"]) == source for rel in rels):
                if target is None:
                    element["Rels"] = [rel for rel in rels if tuple(rel["To"]) != source]
                for rel in element["Rels"] or []:
                    if tuple(rel["To"]) == source:
                        rel["To"] = list(target or ())

    def do_post_blocks(self, uuid: str, elements: Elements) -> None:
        """Replace the list of one block, then have it listed."""
        name = block_of(self.one_of(elements) or self.somewhere())
        made = {tuple(one["Pos"]): one for one in (self.element(elements) for _ in range(6))}
        chosen = {at: one for at, one in made.items() if block_of(at) == name}
        body = {name: list(chosen.values())}
        self.live.ok("POST", f"{self.syn(uuid)}/blocks", json_body=body)
        for position in [at for at in elements if block_of(at) == name]:
            del elements[position]
        elements.update(copy.deepcopy(chosen))
        self.do_reload(uuid, elements)

    def do_reload(self, uuid: str, elements: Elements) -> None:
        check = "?check=true" if self.rng.random() < 0.3 else ""
        self.live.ok("POST", f"{self.syn(uuid)}/reload{check}")

    def do_undo(self, uuid: str, elements: Elements) -> None:
        """Undo an edit of labels, look, and redo it."""
        mutations = [edit.mutation for edit in self.edits[-6:] if edit.mutation]
        if not mutations:
            return
        body = {"mutation": int(self.rng.choice(mutations))}
        answer = self.live.call("POST", f"{self.node(uuid)}/undo", json_body=body)
        assert answer.status in (200, 400, 409), answer.body
        if answer.status == 200:
            self.undone += 1
            self.check_labels(uuid, elements)
            self.live.ok("POST", f"{self.node(uuid)}/redo", json_body=body)

    undone = 0

    # -- what must be read ------------------------------------------------------------------

    def check(self, uuid: str) -> None:
        elements, node = self.elements[uuid], self.syn(uuid)
        blocks = self.live.ok("GET", f"{node}/all-elements").json()
        listed = [one for items in blocks.values() for one in items]
        assert in_order(listed) == in_order(elements.values())
        assert all(
            block_of(tuple(one["Pos"])) == name for name, some in blocks.items() for one in some
        )
        for tag in TAGS:
            wanted = [one for one in elements.values() if tag in (one["Tags"] or [])]
            path = f"{node}/tag/{quoted(tag)}"
            assert plain(self.live.ok("GET", path).json()) == plain(wanted), tag
            full = self.live.ok("GET", f"{path}?relationships=true").json()
            assert in_order(full) == in_order(wanted), tag
        self.check_labels(uuid, elements)
        box = self.live.ok("GET", f"{node}/elements/40_30_20/-3_5_2").json()
        inside = [
            one
            for (x, y, z), one in elements.items()
            if -3 <= x < 37 and 5 <= y < 35 and 2 <= z < 22
        ]
        assert in_order(box or []) == in_order(inside)

    def check_labels(self, uuid: str, elements: Elements) -> None:
        """Lists agree with what the labelmap answers for the places of all elements."""
        positions = list(elements)
        body = json.dumps(positions).encode()
        labels = self.live.ok("GET", f"{self.node(uuid)}/labels", body).json() if positions else []
        by_label: dict[int, list[Position]] = {}
        for position, label in zip(positions, labels, strict=True):
            by_label.setdefault(label, []).append(position)
        others = {1, *self.ids, *self.models[uuid].counts(), *self.models[uuid].bodies}
        for label in {*by_label, *others} - {0}:
            wanted = [elements[position] for position in by_label.get(label, ())]
            path = f"{self.syn(uuid)}/label/{label}"
            assert plain(self.live.ok("GET", path).json()) == plain(wanted), label
            if wanted:
                full = self.live.ok("GET", f"{path}?relationships=true").json()
                assert in_order(full) == in_order(wanted), label


def quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())
