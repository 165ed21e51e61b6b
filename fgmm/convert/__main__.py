"""Published weights as a run of no steps::

    python -m fgmm.convert --from=clip-vit-base-patch32 --output=runs/clip
    python -m fgmm.convert --from=siglip-base-patch16-224 --output=runs/siglip --modality=video

The program finds out which model the weights are of, and prints it. The run opens in ``fgmm.load``
and in evaluations, and another run starts from it with ``config.init_from``. ``families`` finds the
module of a model; S3D has a program of its own, ``fgmm.convert.s3d_howto100m``.
"""

import hashlib
import inspect
import pathlib
import sys

import jax
from absl import flags

from fgmm import command_line
from fgmm.config import ConfigError
from fgmm.convert import published as files
from fgmm.convert.converted import write
from fgmm.convert.families import family_of
from fgmm.train.checkpoint import TOKENIZER

# Options of the spectrogram that are printed.
_MEL = ("mel_filterbank", "mel_bands", "mel_length", "mel_mean", "mel_spread")


def main(argv: list[str]) -> None:
    """Reads, converts and writes."""
    del argv
    path, output = (
        pathlib.Path(command_line.required(name)).expanduser() for name in ("from", "output")
    )
    published = files.read(path)
    module = family_of(published)
    print(
        f"{module.MODEL}, {published.layout}: "
        + ", ".join(file.name for file in published.files)
        + f", {len(published.arrays)} arrays"
    )
    given = {name: flags.FLAGS[name].value for name in ("modality", "activation")}
    taken = inspect.signature(module.as_run).parameters
    for name, value in given.items():
        if value and name not in taken:
            raise ConfigError(f"--{name}={value} is no option of {module.MODEL}")
    command_line.folder_to_write(output)
    found = module.as_run(published, **{n: v for n, v in given.items() if n in taken})
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in published.files}
    write(found, output, {"model": module.MODEL, "sha256": digests})
    config = found.experiment.config
    count = sum(leaf.size for leaf in jax.tree.leaves(found.state.params["model"]))
    lines = [f"{output}: {count:,} parameters of {', '.join(found.experiment.model.encoders)}"]
    if "video" in config.model:
        lines.append(
            f"pictures: {config.data.frames} x {config.data.height} x {config.data.width}, "
            f"{config.data.resize}, {config.data.resize_filter}, ratio "
            f"{config.data.resize_ratio:.4g}, mean {config.transforms.pixel_mean}, "
            f"spread {config.transforms.pixel_spread}"
        )
    if "audio" in config.model:
        mel = {name.removeprefix("mel_"): config.transforms[name] for name in _MEL}
        lines.append(
            f"sound: {config.data.seconds:g} s of {config.data.sample_rate} Hz; "
            + ", ".join(f"{name} {value}" for name, value in mel.items())
        )
    if "text" in config.model:
        lines.append(f"captions: {config.data.tokens} tokens, tokenizer {output / TOKENIZER}")
    print("\n".join(lines))


if __name__ == "__main__":
    flags.DEFINE_string("from", None, "A folder or a file of published weights.")
    flags.DEFINE_string("output", None, "The folder to write.")
    flags.DEFINE_string("modality", "", "One tower alone: video, audio or text; empty for all.")
    flags.DEFINE_string(
        "activation", "", "quick_gelu or gelu: of a CLIP whose file does not say it."
    )
    sys.exit(command_line.run(main))
