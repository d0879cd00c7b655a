"""A picture that a notebook shows by itself."""

from pathlib import Path


class Picture(str):
    """SVG text. As the last line of a notebook's cell it is shown; ``save`` writes it to a file."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)

    def save(self, path: Path) -> None:
        """Write the picture to a file."""
        path.write_text(self, encoding="utf-8")
