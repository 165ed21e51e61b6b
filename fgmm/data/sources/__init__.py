"""Corpora, one a file. A module here is found by its name in ``config.data.source.name``.

A source module defines one class ``Source``: random access to clips that are a function of the
options and the index alone, so that the data position of a run is one number.

``Source(*, split: str, **options)``
    Opens the corpus. Raises ``fgmm.config.ConfigError`` for a missing corpus or an unknown split.
``len(source)``, ``source[index] -> fgmm.data.schema.Clip``
    Reading media is deferred: a ``Clip`` carries bytes or readers, opening it never fails.
``source.report: collections.Counter``
    Entries left out when the corpus was opened, by reason.

Where it makes sense there are also:

``source.draw(index, rng) -> Clip``
    The clip that training takes, with what ``rng`` draws of it, such as a stretch of a recording.
``source.classes: dict[str, tuple[str, ...]]``
    The names of the classes of each kind of label, by label.
``source.parts``
    Corpora with weights, by which training draws: ``mixture``.

A module may define a class ``Raw`` beside it, for ``fgmm.data.prepare``:
``fgmm/data/preparation/raw.py`` says how.
"""
