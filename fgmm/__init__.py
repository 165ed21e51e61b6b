"""fgmm: fine-grained multi-modal self-supervised learning from narrated video.

Video, audio and text encoders are trained together by comparing *local* embeddings (cells of a
feature map, patches of a spectrogram) with *phrase* embeddings. One legend of axis letters is used
in every einsum, docstring and test:

======  =====================================================================================
letter  axis
======  =====================================================================================
B       clips of the batch (the query side)
C       clips of the batch (the candidate side; C = B, sharded separately)
K       caption candidates of a clip (nearby narrations, the MIL bag)
P       phrases of a caption (for ``video_audio``: audio pooled to at most P time segments)
L       SentencePiece tokens of a caption
T H W   frames, rows, columns of a feature map
N       local embeddings of a clip: T·H·W cells for video, time·frequency patches for audio
D       embedding width
S       audio samples
======  =====================================================================================

Further words: a *coarse* embedding is one vector for a whole clip or caption; a *pair* is two
modalities compared with each other, named ``video_text``, ``video_audio`` or ``audio_text``.
"""

import importlib

__version__ = "0.1.0"

# The module of each public name, and the attribute of it; None for the module itself.
_PUBLIC = {
    "load": ("fgmm.trained", "load"),
    "losses": ("fgmm.losses", None),
}


def __getattr__(name: str):
    """Imports public names on first use (PEP 562), so that ``import fgmm`` costs nothing."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fgmm' has no attribute {name!r}; public: {sorted(_PUBLIC)}")
    module, attribute = _PUBLIC[name]
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
