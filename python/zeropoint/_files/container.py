"""What a path holds: one file of tensors, or a folder of files that are the shards of one model."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from .source import Source, Stream, Tensor

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

    @functools.cached_property
    def _homes(self) -> dict[str, Source]:
        return {name: one for one in self.shards for name in one.tensors}

    def home(self, tensor: Tensor) -> Source:
        """The file that `tensor` lies in."""
        return self.shards[0] if len(self.shards) == 1 else self._homes[tensor.name]

    def path_of(self, tensor: Tensor) -> Path:
        return self.home(tensor).path

    def stream(self, tensor: Tensor) -> contextlib.AbstractContextManager[Stream]:
        """The elements of `tensor`; several streams may be open at once."""
        return self.home(tensor).stream(tensor)

    def leave_out(self, name: str, why: str) -> None:
        """Take a member of the one file from the container."""
        self.left_out[name] = why
        del self.tensors[name]

    def check_unchanged(self) -> None:
        """ValueError if a file was written to: two passes may then have seen two tensors."""
        for one in self.shards:
            one.check_unchanged()
