"""What a run prints before its first step."""

import math
import platform

import flax
import jax
import jaxlib
import numpy as np
from jax.sharding import Mesh

import fgmm
from fgmm import provenance
from fgmm.config import ConfigError
from fgmm.data.pipeline import Assembler
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.models import counts


def summary(experiment: Experiment, mesh: Mesh, state: TrainState) -> str:
    """Devices, sizes of the batch, negatives, parameters and versions, a line each; then a table of
    the parameters and FLOPs of each encoder and the heads.

    Args:
      experiment: the run's.
      mesh: of all devices.
      state: sharded over the mesh; its shardings tell how many parameters a device holds.
    """
    config, captions = experiment.config, max(1, experiment.shape.captions)
    of_loss = config.batch_size // config.accumulate
    compares = bool(experiment.objective.compared)
    others = f"{of_loss - 1} clips"
    if experiment.shape.tokens and captions > 1:
        others += f" with up to {captions} captions each"
    parts = [
        f"{what} in {count} micro-batches"
        for what, count in (("a loss each", config.accumulate), ("embedded", config.grad_cache))
        if count > 1
    ]
    devices = mesh.devices.ravel()
    axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    leaves = jax.tree.leaves(state.params)
    held = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
    total = sum(leaf.size for leaf in leaves)
    still = jax.tree.leaves(experiment.optimizer.frozen.mask(state.params))
    frozen = sum(leaf.size for leaf, stays in zip(leaves, still, strict=True) if stays)
    lines = {
        "devices": f"{len(devices)} x {devices[0].device_kind} in {_count(jax.process_count())}",
        "mesh": axes,
        "batch": f"{config.batch_size} clips, {config.batch_size // mesh.size} on each device"
        + "".join(f"; {part}" for part in parts),
        **({"negatives": f"each clip meets {others}"} if compares else {}),
        "parameters": f"{total:,}"
        + (f", {held:,} on each device" if held < total else "")
        + (f", {frozen:,} frozen" if frozen else ""),
        **({"adapters": str(experiment.adapters)} if experiment.adapters else {}),
        "evaluated": "parameters of the last step"
        if state.ema is None
        else f"moving average of parameters (ema {config.optimizer.ema})",
        "versions": f"fgmm {fgmm.__version__} ({provenance.commit() or 'no commit'}), "
        f"jax {jax.__version__}, jaxlib {jaxlib.__version__}, flax {flax.__version__}, "
        f"Python {platform.python_version()}",
    }
    inputs = jax.eval_shape(experiment.transforms, experiment.blank_batch(1))
    for modality, name in (("video", "video"), ("audio", "log_mel"), ("text", "tokens")):
        encoder = experiment.model.encoders.get(modality)
        if hasattr(encoder, "note") and (said := encoder.note(inputs[name].shape)):
            lines[modality] = said
    listed = [f"{name + ':':12}{text}" for name, text in lines.items()]
    return "\n".join([*listed, counts.table(experiment.model, inputs)])


def check_end_token(experiment: Experiment) -> None:
    """Checks that captions have the token at which the text encoder reads them.

    Runs that were trained without it still open.

    Raises:
      ConfigError: the tokenizer gives captions without this token.
    """
    end = getattr(experiment.model.encoders.get("text"), "end_token", None)
    if end is None or experiment.tokenizer.gives(end, experiment.shape.tokens):
        return
    data = experiment.config.data
    raise ConfigError(
        f"model.text.end_token={end} is in no caption of data.tokens={data.tokens} tokens of "
        f"data.tokenizer={data.tokenizer!r}; set it to the token that ends every caption, or take "
        "another text encoder"
    )


def text_lines(assembler: Assembler, clips: int = 64) -> list[str]:
    """Lines on captions: the share of pieces that the tokenizer does not know and, if there are
    any, the share of phrases that have no room in a batch.

    Args:
      assembler: of the corpus.
      clips: how many clips are looked at, at equal distances over the corpus.

    Raises:
      ConfigError: the tokenizer knows no piece of their captions.
    """
    if assembler.tokenizer is None:
        return []
    count = min(clips, len(assembler.source))
    places = np.linspace(0, len(assembler.source) - 1, count).astype(int).tolist()
    spoken = ([c for c in assembler.source[n].captions if c.text.strip()] for n in places)
    texts = [caption.text for captions in spoken for caption in assembler.chosen(captions)]
    counts = [assembler.tokenizer.unknown(text) for text in texts]
    unknown, pieces = sum(n for n, _ in counts), sum(n for _, n in counts)
    if not pieces:
        return []
    if unknown == pieces:
        raise ConfigError(
            f"data.tokenizer knows nothing of the captions of {count} clips of data.source, "
            f"such as {texts[0]!r}; train one on them: python -m fgmm.data.tokenizer train"
        )
    lines = [
        f"{'spelling:':12}{unknown / pieces:.1%} of {pieces:,} pieces of captions of {count} "
        "clips are unknown to the tokenizer"
    ]
    if share := assembler.share_left_out(texts):
        lines.append(
            f"{'phrases:':12}{share:.1%} of those of {count} clips have no room in "
            f"data.phrases={assembler.shape.phrases} and data.tokens={assembler.shape.tokens}"
        )
    return lines


def _count(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"
