"""Corpora, one a file. A module here is found by its name in ``config.data.source.name``.

A source module defines one class ``Source``: random access to clips that are a function of the
options and the index alone, so that the data position of a run is one number.

``Source(**options)``
    A frozen dataclass whose fields are the options. Making one opens the corpus, and raises
    ``fgmm.config.ConfigError`` for an option that makes no sense or a corpus that is missing. An
    option ``seconds``, the length of a window, is ``config.data.seconds`` unless an entry sets it.
``len(source)``, ``source[index] -> fgmm.data.schema.Clip``
    Reading media is deferred: a ``Clip`` says which stretch of which recording it is, and opening
    it never fails. The batch says how many pictures of what size are read.
``source.report: collections.Counter``
    Entries left out when the corpus was opened, by reason.

Where it makes sense there are also:

``source.draw(index, rng) -> Clip``
    The clip that training takes: ``rng`` draws from it, such as a stretch of a recording.
``source.classes: dict[str, tuple[str, ...]]``
    The names of the classes of each kind of label, by label.
``source.parts``
    Corpora with weights, by which training draws: ``mixture``.
``source.feature_shape``
    (T, H, W, E) of the stored features that its clips have in the place of pictures: ``features``.
``source.fingerprint()``
    What tells the corpus from others; see ``fgmm.data.fingerprint``.
``source.raw()``
    The recordings as they lie on disk, for ``fgmm.data.prepare``:
    ``fgmm/data/preparation/raw.py`` says how.
"""
