"""A planted bug: each write of the log reaches its file one write late."""

import sys
from functools import partial
from pathlib import Path

from dvid_es.logs import FileLog
from dvid_es.logs.disk import Disk
from tests.logs import crasher


class LateDisk(Disk):
    waiting = None

    def pwritev(self, fd, buffers, offset):
        data = b"".join(buffers)
        if offset == 0:
            return super().pwritev(fd, buffers, offset)
        if self.waiting is not None:
            super().pwritev(*self.waiting)
        self.waiting = fd, [data], offset
        return len(data)


if __name__ == "__main__":
    crasher.SEGMENT_BYTES = 1 << 30
    crasher.main(Path(sys.argv[1]), log_type=partial(FileLog, disk=LateDisk()))
