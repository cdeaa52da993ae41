"""The LoRA adapters of a whole compact decoder."""

import hashlib
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from services.errors import FailedPrecondition
from services.inference.engines.decoder_linear import Projection, Source
from services.inference.engines.decoder_lora import AdapterRows, Adapters, LowRank
from services.inference.engines.decoder_peft import ModuleAdapter, read_adapter


@dataclass(frozen=True, slots=True)
class ReadAdapter:
    """An adapter that fits the model, ready to be put beside it."""

    changes: Mapping[int, Sequence[LowRank]]
    """By projection."""
    parameter_count: int
    rank: int
    """The largest of its modules'."""
    digest: str
    """Twelve hexadecimal digits that differ between different adapters."""


class AdapterSet:
    """Adapters by name, and the projections that they change.

    Used by the device's thread alone, between passes; `read` may be called anywhere.
    """

    def __init__(
        self, projections: Sequence[Projection], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._device, self._dtype = device, dtype
        self._rows = AdapterRows()
        self._slots: dict[str, int] = {}
        self._next: list[int] | None = None
        self._stacks: list[tuple[Projection, Adapters]] = []
        for projection in projections:
            projection.adapters = Adapters(self._rows)
            self._stacks.append((projection, projection.adapters))

    def read(self, folder: Path) -> ReadAdapter:
        """Reads an adapter and sees whether it fits; changes nothing yet."""
        modules = read_adapter(folder, device=self._device, dtype=self._dtype)
        changes: defaultdict[int, list[LowRank]] = defaultdict(list)
        known: set[str] = set()
        for place, (projection, _) in enumerate(self._stacks):
            start = 0
            for source, width in projection.sources:
                known.add(source.path)
                if source.path in modules:
                    changes[place].append(
                        _placed(modules[source.path], projection, source, start, width)
                    )
                start += width
        unknown = sorted(modules.keys() - known)
        if unknown:
            raise FailedPrecondition(
                f"The adapter changes {len(unknown)} modules that this engine doesn't adapt "
                f"({unknown[0]} …); it adapts the projections of attention and MLP of the base "
                f"that is loaded."
            )
        return ReadAdapter(
            changes,
            parameter_count=sum(m.down.numel() + m.up.numel() for m in modules.values()),
            rank=max(len(module.down) for module in modules.values()),
            digest=_digest(modules),
        )

    def put(self, name: str, adapter: ReadAdapter) -> None:
        """Takes in what was read; one of that name is replaced."""
        self.drop(name)
        slot = next(n for n in range(1, len(self._slots) + 2) if n not in self._slots.values())
        for place, parts in adapter.changes.items():
            self._stacks[place][1].put(slot, parts)
        self._slots[name] = slot

    def drop(self, name: str) -> None:
        """Forgets an adapter; nothing happens where there is none of that name."""
        slot = self._slots.pop(name, None)
        if slot is not None:
            for _, adapters in self._stacks:
                adapters.drop(slot)

    def rows(self, names: Sequence[str | None]) -> None:
        """Says which adapter each row of the next pass has."""
        missing = sorted({name for name in names if name is not None} - self._slots.keys())
        if missing:
            raise FailedPrecondition(f"No adapter “{missing[0]}” is loaded: load it first.")
        self._next = [0 if name is None else self._slots[name] for name in names]

    @contextmanager
    def placed(self, batch: int) -> Generator[None, None, None]:
        """One pass, with the rows that were said."""
        slots, self._next = self._next, None
        if slots is None or not any(slots):
            yield
            return
        if len(slots) != batch:
            raise ValueError(f"adapters of {len(slots)} rows for a batch of {batch}")
        self._rows.slots = torch.tensor(slots, device=self._device)[:, None, None]
        try:
            yield
        finally:
            self._rows.slots = None


def _digest(modules: Mapping[str, ModuleAdapter]) -> str:
    digest = hashlib.sha256()
    for path, module in sorted(modules.items()):
        digest.update(path.encode())
        for tensor in (module.down, module.up):
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _placed(
    module: ModuleAdapter, projection: Projection, source: Source, start: int, width: int
) -> LowRank:
    """A module's change where its outputs lie in a projection."""
    if module.down.shape[1] != projection.inputs or len(module.up) != source.outputs:
        raise FailedPrecondition(
            f"The adapter's matrices of {source.path} are {len(module.up)} × "
            f"{module.down.shape[1]}, but that module is {source.outputs} × {projection.inputs}: "
            f"the adapter belongs to another base."
        )
    up = module.up.new_zeros(projection.outputs, module.up.shape[1])
    up[start : start + width] = source.take(module.up)
    return LowRank(module.down, up)
