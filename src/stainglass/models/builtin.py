"""Generators that come with stainglass: ``builtin:breast``, ``builtin:virtual-skin``."""

from __future__ import annotations

from pathlib import Path

from stainglass.errors import StainglassError

PREFIX = "builtin:"
FOLDER = Path(__file__).parent / "weights"


def builtin_names() -> tuple[str, ...]:
    """Names of the generators that are installed, without the prefix."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob("*/model_index.json")))


def resolve_builtin(name: str | Path) -> str | Path:
    """The folder of ``builtin:NAME``; anything else as it is.

    Raises
    ------
    StainglassError
        When no such generator is installed.
    """
    text = str(name)
    if not text.startswith(PREFIX):
        return name
    wanted = text.removeprefix(PREFIX)
    if wanted not in builtin_names():
        known = ", ".join(PREFIX + found for found in builtin_names()) or "none is installed"
        raise StainglassError(text, "no generator of this name comes with stainglass", f"There are: {known}")
    return FOLDER / wanted


def resolve_autoencoder(folder: str | Path) -> Path:
    """The autoencoder's folder of ``builtin:NAME``; any other folder as it is."""
    found = resolve_builtin(folder)
    return Path(found) / "autoencoder" if str(folder).startswith(PREFIX) else Path(found)
