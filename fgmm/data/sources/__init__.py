"""Corpora, one a file. A module here is found by its name in ``config.data.source.name``.

A source module defines one class ``Source``: random access to clips that are a function of the
options and the index alone, so that the data position of a run is one number.

``Source(**options)``
    A frozen dataclass whose fields are the options. Making one opens the corpus, and raises
    ``fgmm.config.ConfigError`` for an option that makes no sense or a corpus that is missing. The
    option ``seconds``, the length of a window, is ``config.data.seconds`` unless an entry sets it.
``len(source)``, ``source[index] -> fgmm.data.schema.Clip``
    Reading media is deferred: a ``Clip`` says which stretch of which recording it is, and opening
    it never fails. The batch says how many pictures of what size are read.
``source.report: collections.Counter``
    Entries left out when the corpus was opened, by reason.

A source may also have:

``source.draw(index, rng) -> Clip``
    The clip that training takes: what ``rng`` draws from a record, such as a stretch of it. An
    encoded picture is the same in every draw.
``source.classes: dict[str, tuple[str, ...]]``
    The names of the classes of each kind of label, by label.
``source.parts``
    Corpora with weights, by which training draws; see ``mixture``.
``source.feature_shape``
    (T, H, W, E) of the stored features that its clips have instead of pictures; see ``features``.
``source.least_frames``
    T below which a batch would leave out pictures; see ``slideshow``.
``source.fingerprint()``
    What distinguishes the corpus from others; see ``fgmm.data.fingerprint``.
``source.raw()``
    The recordings as they lie on disk, for ``fgmm.data.prepare``; see
    ``fgmm/data/preparation/raw.py``.
"""
