"""Serves a data folder, begins an export, and dies as by kill -9 in the middle of a file.

Arguments: data folder, which chunk it dies at, and a planted bug: "named-at-once" writes files under their
names from the beginning, "-" is none. Prints the path of the instance.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from dvid_es.datatypes.labelmap.export import folders, precomputed, sharding
from dvid_es.settings import Settings
from tests.conftest import running
from tests.datatypes.labelmap.voxel_oracle import Segmentation, cells


def main(data: str, chunk: str, bug: str) -> None:
    sharding.PRESHIFT_BITS, sharding.MINISHARD_BITS = 2, 1
    if bug == "named-at-once":
        folders.NewFile.__init__ = named_at_once(folders.NewFile.__init__)
    left = [int(chunk)]
    real = precomputed.gzip_compress

    def compress(data: Any) -> bytes:
        left[0] -= 1
        if not left[0]:
            os._exit(9)
        return real(data)

    precomputed.gzip_compress = compress
    with running(Settings(data=Path(data))) as live:
        root = live.new_repo()
        live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
        seg = Segmentation(live, root)
        seg.post(cells((64, 96, 128), 9, 3))
        print(seg.node, flush=True)
        live.call("POST", f"{seg.node}/export/precomputed", b'{"folder": "x"}')
        threading.Event().wait()


def named_at_once(begin: Any) -> Any:
    def changed(self: Any, *args: Any) -> None:
        begin(self, *args)
        self._new = self.path

    return changed


if __name__ == "__main__":
    main(*sys.argv[1:])
