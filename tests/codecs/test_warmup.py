import subprocess
import sys
from pathlib import Path

import numpy as np

from dvid_es import codecs
from dvid_es.codecs import labelblock

FOLDER = Path(codecs.__file__).parent


def test_every_module_with_kernels_is_warmed_up():
    with_kernels = {path.stem for path in FOLDER.glob("*.py") if "@kernel(" in path.read_text()}
    assert with_kernels == set(codecs.KERNEL_MODULES)


def test_warmup_leaves_nothing_to_compile():
    codecs.warmup()
    for name in codecs.KERNEL_MODULES:
        module = sys.modules[f"dvid_es.codecs.{name}"]
        for value in vars(module).values():
            if hasattr(value, "nopython_signatures") and value._can_compile is False:
                assert value.nopython_signatures


def test_kernels_never_compile_for_other_types():
    # A second signature would mean that a request waited for the compiler.
    block = labelblock.encode(np.zeros((8, 8, 8), np.uint64))
    for data in (block, bytearray(block), memoryview(block)):
        labelblock.validate(data)
        labelblock.decode(data)
    from dvid_es.codecs import labelblock_kernels as kernels

    for kernel in (kernels.paste, kernels.encode, kernels.check, kernels.look_up):
        assert len(kernel.signatures) == 1


def test_importing_the_package_alone_loads_no_compiler():
    code = "import sys, dvid_es.codecs; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
