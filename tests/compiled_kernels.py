"""Compiles every kernel of a block plan for a GPU that need not be there: `python compiled_kernels.py CAPABILITY`.

Prints the names of the kernels. A process of its own: where Triton interprets, it does not compile.
"""

from __future__ import annotations

import sys

import torch
from test_cpu_program import flat
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from hpcnas.architecture.expansion import expand
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.training.cuda import backward, block_graph
from hpcnas.training.cuda.parameters import CudaPlan, Draws, Pixels, Room
from hpcnas.training.cuda.program import CudaProgram, Launch, Table
from hpcnas.training.network import Network

CPU = torch.device("cpu")
EVERYTHING = flat("1-2 sep, 1-3 dw, 2-3 max, 3-4 avg, 2-4 1x1", 4)
SKELETON = Skeleton(3, 8, 8, 10, 16, (1, 1))
POINTERS = {
    **{torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.uint8: "*u8"},
    **{torch.uint16: "*u16", torch.float16: "*fp16", torch.int16: "*i16", torch.int32: "*i32", torch.int64: "*i64"},
}


def programs(kind: torch.dtype = torch.uint8) -> list[CudaProgram]:
    """Of training and of validation, with pixels of that type."""
    plan = CudaPlan(
        block_graph.build(expand(EVERYTHING), SKELETON), [Network(expand(EVERYTHING), SKELETON).state_dict()], CPU
    )
    pixels = Pixels(torch.zeros(4, 8, 8, 3, dtype=kind), torch.zeros(4, dtype=torch.int64), torch.zeros(2, 3))
    draws = Draws(
        order=torch.zeros(1, 2, 4, dtype=torch.int32),
        offsets=torch.zeros(1, 2, 4, 3, dtype=torch.int16),
        step=torch.zeros(1, dtype=torch.int64),
        losses=torch.zeros(1, 2),
        right=torch.zeros(1, dtype=torch.int32),
        scores=torch.zeros(1, 4, SKELETON.classes),
    )
    return [CudaProgram(plan, Room(CPU), pixels, draws, (6, 6), training) for training in (True, False)]


def compiled(launch: Launch, capability: int) -> None:
    given = dict(zip(launch.kernel.arg_names, launch.arguments, strict=False))
    types = dict.fromkeys(launch.kernel.arg_names, "constexpr")
    for name, value in given.items():
        value = value.tensor if isinstance(value, Table) else value
        types[name] = POINTERS[value.dtype] if isinstance(value, torch.Tensor) else "i32"
    constants = {name: value for name, value in launch.constants.items() if name in types}
    compile(
        ASTSource(launch.kernel, types, constexprs=constants),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": launch.constants.get("num_warps", 4)},
    )


def main() -> None:
    update = backward.update
    types = dict.fromkeys(update.arg_names, "*fp32") | {"step": "*i64", "COUNT": "i32", "TILE": "constexpr"}
    types |= {"momentum": "fp32", "decay": "fp32"}
    capability = int(sys.argv[1])
    compile(ASTSource(update, types, constexprs={"TILE": 1024}), target=GPUTarget("cuda", capability, 32))
    done = {}
    for program in programs():
        for launch in program.launches:
            done.setdefault((launch.kernel.__name__, launch.constants.get("STRIDE")), launch)
    for launch in done.values():
        compiled(launch, capability)
    for kind in (torch.uint16, torch.float16):  # pixels of types that nothing else is of
        launches = programs(kind)[0].launches
        compiled(next(launch for launch in launches if launch.kernel.__name__ == "take_images"), capability)
    print(*sorted({name for name, _ in done}), "update")


if __name__ == "__main__":
    main()
