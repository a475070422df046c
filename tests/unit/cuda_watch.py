"""Who used which memory on which stream, and whether he waited: the twin's bindings under a watch."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

_PUT = """copy_in copy copy_out_sync zero stream_sync mix consensus average find_nonfinite gemm norms nearest
router_layer router_head rowconv rowconv_weight random cublas_gemm""".split()


class Watch:
    """A collegium._cuda that knows what each stream has seen: its own work, and what streams it waited for had seen.

    All that is done to a piece of memory, giving it back too, must come after all that was done to it before. `wrong`
    lists what did not. The twin itself does everything at once and cannot tell.
    """

    def __init__(self, module: ModuleType) -> None:
        self._module, self.wrong = module, list[str]()
        self._seen: dict[int, dict[int, int]] = {}  # of each stream: how much of each stream's work
        self._host: dict[int, int] = {}
        self._blocks: list[Block] = []

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        return functools.partial(self._put, name, function) if name in _PUT else function

    def alloc(self, device: int, stream: int, size: int) -> tuple[int, Owner]:
        address, owner = self._module.alloc(device, stream, size)
        self._blocks.append(Block(self, stream, range(address, address + size), owner))
        return address, Owner(self._blocks[-1])

    def stream_wait(self, device: int, stream: int, other: int) -> None:
        self._module.stream_wait(device, stream, other)
        _join(self._of(stream), self._of(other))

    def _put(self, name: str, function: Any, device: int, stream: int, *args: Any) -> None:
        self._next(stream)
        for block in self._blocks:
            if any(isinstance(a, int) and a in block.bytes for a in args):
                self._touch(block, stream, name)
        function(device, stream, *args)
        if name.endswith("_sync"):
            _join(self._host, self._of(stream))

    def _of(self, stream: int) -> dict[int, int]:
        return self._seen.setdefault(stream, {})

    def _next(self, stream: int) -> None:
        seen = self._of(stream)
        _join(seen, self._host)
        seen[stream] = seen.get(stream, 0) + 1

    def _touch(self, block: Block, stream: int, what: str) -> None:
        seen = self._of(stream)
        late = [s for s, work in block.uses.items() if seen.get(s, 0) < work]
        self.wrong += [f"{what} on stream {stream} does not wait for work on stream {s}" for s in late]
        block.uses[stream] = seen[stream]


class Block:
    """Memory, the stream it was made on, and how far each stream's work was when it last used it."""

    def __init__(self, watch: Watch, stream: int, bytes: range, owner: Any) -> None:
        self.watch, self.stream, self.bytes, self.owner, self.uses = watch, stream, bytes, owner, dict[int, int]()

    def give_back(self) -> None:
        self.watch._next(self.stream)
        self.watch._touch(self, self.stream, "giving back")
        self.watch._blocks.remove(self)


class Owner:
    """Gives its memory back when it is gone."""

    def __init__(self, block: Block) -> None:
        self._block = block

    def __del__(self) -> None:
        self._block.give_back()


def _join(seen: dict[int, int], other: dict[int, int]) -> None:
    for stream, work in other.items():
        seen[stream] = max(seen.get(stream, 0), work)
