"""A file of an email."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Attachment:
    """A file of an email. Its content appears in no repr.

    The type follows from the extension of the name. ``content_type`` counts only where that is unknown.
    With a ``content_id``, such as ``logo.png``, the HTML may show the file: ``<img src="cid:logo.png">``.
    """

    filename: str
    content: bytes = field(repr=False)
    content_type: str | None = None
    content_id: str | None = None

    def __post_init__(self) -> None:
        """Take a copy of what may change. Raises TypeError for content that is not bytes."""
        if not isinstance(self.content, (bytes, bytearray, memoryview)):
            raise TypeError(f"content: must be bytes, not {type(self.content).__name__}")
        object.__setattr__(self, "content", bytes(self.content))

    @classmethod
    def from_path(
        cls,
        path: str | os.PathLike[str],
        *,
        filename: str | None = None,
        content_type: str | None = None,
        content_id: str | None = None,
    ) -> Attachment:
        """Read a file. Its name is the last part of the path, unless another is given. Raises OSError."""
        name = Path(path).name if filename is None else filename
        return cls(name, Path(path).read_bytes(), content_type, content_id)
