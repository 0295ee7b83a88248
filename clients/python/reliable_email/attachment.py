"""A file of an email."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Attachment:
    """A file of an email. Its content appears in no repr.

    The content type follows from the extension of the file name. ``content_type`` counts only if that is
    unknown. With a ``content_id``, such as ``logo.png``, the HTML can show the file:
    ``<img src="cid:logo.png">``.
    """

    filename: str
    content: bytes = field(repr=False)
    content_type: str | None = None
    content_id: str | None = None

    def __post_init__(self) -> None:
        """Copy content that may change. Raises TypeError if it is not bytes."""
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
        """Read a file. Its name is the last part of the path unless ``filename`` is given. Raises OSError."""
        name = Path(path).name if filename is None else filename
        return cls(name, Path(path).read_bytes(), content_type, content_id)
