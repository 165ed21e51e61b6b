"""Corpora opened as a config names them."""

from collections.abc import Iterator, Mapping
from typing import Any

from fgmm import components
from fgmm.config import Config, ConfigError, plain


def open_source(entry: Config, key: str, seconds: float) -> Any:
    """Opens a corpus.

    Args:
      entry: ``{"name": ..., option: value, ...}``, as in ``config.data.source``.
      key: where the entry stands in the config, for errors.
      seconds: the length of a window, if the source has windows and the entry does not set it.

    Raises:
      ConfigError: the name or an option is wrong, or the corpus cannot be opened.
    """
    source = components.find("data.sources", entry.get("name", ""), key=f"{key}.name")
    options = plain(entry)
    if "seconds" in components.options(source):
        options = {"seconds": seconds, **options}
    return components.build("data.sources", options, key=key)


def within(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of the corpora that a corpus is made of: its ``source`` or its ``sources``."""
    found = [entry.get("source")]
    if isinstance(parts := entry.get("sources"), Mapping):
        found += parts.values()
    return [inner for inner in found if isinstance(inner, Mapping)]


def check_lengths(entry: Config, key: str, seconds: float) -> None:
    """Checks that all windows of a corpus for training are as long as those of a batch.

    Whole recordings, for which a source has ``seconds=0``, may have any length.

    Args:
      entry, key: as of ``open_source``.
      seconds: of a batch.

    Raises:
      ConfigError: the entry, or one within it, sets another length.
    """
    for name, given in _lengths(entry, key):
        if given not in (0, seconds):
            raise ConfigError(
                f"{name}={given!r} must be data.seconds={seconds!r}, the length of pictures and "
                "sound alike; leave it out and set data.seconds, or set it to 0 for whole "
                "recordings where the source has them"
            )


def _lengths(entry: Config, key: str) -> Iterator[tuple[str, Any]]:
    """The lengths of windows that an entry, or a corpus within it, sets itself, by key."""
    if "seconds" in entry:
        yield f"{key}.seconds", entry["seconds"]
    if isinstance(inner := entry.get("source"), Config):
        yield from _lengths(inner, f"{key}.source")
    if isinstance(parts := entry.get("sources"), Config):
        for name, part in parts.items():
            if isinstance(part, Config):
                yield from _lengths(part, f"{key}.sources.{name}")
