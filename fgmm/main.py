"""Trains what a config describes: ``python -m fgmm.main --config=configs/X.py --workdir=DIR``."""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from fgmm import command_line
from fgmm.config import flat

config_flags.DEFINE_config_file("config", None, "The experiment, configs/X.py[:k=v,...].")
flags.DEFINE_string("workdir", None, "Where checkpoints and metrics go.")


def main(argv: list[str]) -> None:
    """Flags to config to objects to the loop."""
    del argv
    config, workdir = command_line.required("config"), command_line.required("workdir")

    from fgmm import xla_flags

    xla_flags.configure(deterministic=config.deterministic)

    from fgmm import experiment
    from fgmm.eval import inside_training
    from fgmm.train import loop

    built = experiment.build(config)
    source = built.source(built.config.data.source, "data.source")
    for key, value in sorted(flat(built.config).items()):
        print(f"{key} = {value!r}")
    command_line.use_compilation_cache()
    try:
        loop.train(built, source, pathlib.Path(workdir), inside_training.from_config(built))
    except loop.Diverged as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
