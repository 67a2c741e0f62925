"""What a path holds: one file of tensors, or a folder of files that are the shards of one model."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .source import Source, Stream, Tensor, state_of

if TYPE_CHECKING:
    from .folder import Folder


class Container:
    """The open files of tensors behind one path."""

    def __init__(
        self, path: Path, shards: tuple[Source, ...], folder: Folder | None = None
    ) -> None:
        self.path, self.shards, self.folder = path, shards, folder
        self.tensors = shards[0].tensors
        if len(shards) > 1:
            self.tensors = {name: each for one in shards for name, each in one.tensors.items()}
        self.format = shards[0].format if folder is None else "folder"
        self.metadata = shards[0].metadata if folder is None else {}
        self.bytes = sum(one.bytes for one in shards)
        #: excluded members that are no tensors, and files that are not copied, and why
        self.left_out: dict[str, str] = {} if folder is None else dict(folder.left_out)
        #: which tensors are quantized, and how, once `formats` has looked
        self.formats: dict[str, Any] | None = None
        #: they change when a file does that is read here, or when the folder gains or loses one
        self.states = self._states()

    def again(self, files: Iterable[BinaryIO]) -> Container:
        """The same, of shards that were opened again."""
        again = copy.copy(self)
        again.shards = tuple(
            Source(one.path, file, one.header) for one, file in zip(self.shards, files, strict=True)
        )
        again.states = again._states()
        return again

    @functools.cached_property
    def _homes(self) -> dict[str, int]:
        return {name: at for at, one in enumerate(self.shards) for name in one.tensors}

    def home(self, tensor: Tensor) -> Source:
        """The file that `tensor` lies in."""
        return self.shards[0 if len(self.shards) == 1 else self._homes[tensor.name]]

    def _states(self) -> tuple[tuple[int, ...], ...]:
        found = tuple(one.state for one in self.shards)
        if self.folder is None:
            return found
        names = (".", self.folder.index) if self.folder.index else (".",)
        return (*found, *(state_of(self.path / name) for name in names))

    def path_of(self, tensor: Tensor) -> Path:
        return self.home(tensor).path

    def stream(self, tensor: Tensor) -> contextlib.AbstractContextManager[Stream]:
        """The elements of `tensor`; several streams may be open at once."""
        return self.home(tensor).stream(tensor)

    def first_few(self) -> str:
        """Of what it holds, for a message."""
        few = [f"{each.name[:60]!r} of {each.label}" for each in (*self.tensors.values(),)[:3]]
        return ", ".join(few + ["..."] * (len(self.tensors) > 3))

    def leave_out(self, name: str, why: str) -> None:
        """Take a member of the one file from the container."""
        self.left_out[name] = why
        del self.tensors[name]

    def check_unchanged(self) -> None:
        """ValueError if a file was written to: two passes may then have seen two tensors."""
        for one in self.shards:
            one.check_unchanged()
