"""Computes the features of a corpus with a run's video encoder, and stores them.

::

    python -m fgmm.data.features --weights=runs/efficientnet_lite0 \\
        --source=flickr8k:split=train --input=flickr8k.tar --output=flickr8k_features/train

The run may have been trained or converted. Its encoder sees the clips as in evaluations: whole, at
the size that the run uses, not augmented. Local features are stored as float16, with captions,
labels and ids of the clips, without sound; the source and the encoder ``features`` train on them.
If the source draws stretches of recordings, each recording has the stretch of evaluations.

Finished shards stay: the same command continues a run that was interrupted.
"""

if __name__ == "__main__":
    # A program is above all rooms: this one opens a run, as nothing else in data does.
    from fgmm.export import features

    features.run()
