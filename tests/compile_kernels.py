"""Compiles kernels to the machine code of a card, which needs no card: `python compile_kernels.py ARCHITECTURE FILE`.

FILE holds a list of launches as JSON: kernel, types of the arrays, constants, warps. Prints the bytes of memory on the
chip that each takes, as JSON.
"""

import json
import sys
from pathlib import Path

from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kilolayer.nn.kernels import walk_kernels


def shared_bytes(architecture, kernel, types, constants, warps):
    function = getattr(walk_kernels, kernel)
    arrays = [name for name in function.arg_names if name not in constants]
    signature = dict.fromkeys(function.arg_names, "constexpr") | dict(zip(arrays, types, strict=True))
    source = ASTSource(
        function,
        signature,
        constexprs={(function.arg_names.index(name),): value for name, value in constants.items()},
        attrs={(function.arg_names.index(name),): [["tt.divisibility", 16]] for name in arrays},
    )
    options = {"num_warps": warps, "num_stages": constants["STAGES"]}
    compiled = compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    assert len(compiled.asm["cubin"]) > 0
    assert "mma" in compiled.asm["ptx"]  # products on the units made for them
    return compiled.metadata.shared


if __name__ == "__main__":
    launches = json.loads(Path(sys.argv[2]).read_text())
    print(json.dumps([shared_bytes(int(sys.argv[1]), **launch) for launch in launches]))
