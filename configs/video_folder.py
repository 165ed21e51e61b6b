"""Your own videos with captions beside them, sized for two CPU cores.

It is ``configs/corpus.py`` for folders; ``fgmm/data/sources/video_folder.py`` shows their files.
Train a tokenizer on the captions first::

    python -m fgmm.data.tokenizer train --source=video_folder --option=root=my_videos \
        --vocabulary_size=2000 --output=my_videos.model
    python -m fgmm.main --config=configs/video_folder.py:root=my_videos,tokenizer=my_videos.model \
        --workdir=runs/my_videos
"""

import pathlib
import runpy

import ml_collections

from fgmm import config as configs

# That config lies beside this one, in the checkout and in the package.
_CORPUS = runpy.run_path(str(pathlib.Path(__file__).parent / "corpus.py"))


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root``, ``tokenizer``, ``steps``; ``validation`` is the share of videos kept for
    evaluation, 0 to train on all without one; ``seconds`` and ``fps`` of a window and ``size`` of
    its pictures; ``fine`` is the loss on local embeddings: ``gated``, which learns what to turn
    down, or ``info_nce``, each with a caption spoken in the window, or ``mil_nce`` with a bag of
    captions spoken nearby, for narration out of step with the pictures; ``language`` is that of
    captions with one in their names, ``NAME.en.vtt``.
    """
    variant = configs.variant(
        argument,
        root="videos",
        tokenizer="videos.model",
        steps=2000,
        validation=0.1,
        seconds=2.0,
        fps=4.0,
        size=64,
        fine="gated",
        language="",
    ).to_dict()
    given = {"source": "video_folder", "length": variant.pop("seconds"), **variant}
    return _CORPUS["get_config"](",".join(f"{key}={value}" for key, value in given.items()))
