"""Trains what a config describes: ``python -m fgmm.main --config=NAME --workdir=DIR``.

With several processes, all of them run the same command; see ``docs/distributed.md``.
"""

import gc
import pathlib
import sys

from absl import flags

from fgmm import command_line, components, remote
from fgmm.config.sections import Options

command_line.define_config("The experiment, NAME[:k=v,...] or PATH.py.", Options)
flags.DEFINE_string("workdir", None, "Where checkpoints and metrics go.")
flags.DEFINE_string(
    "coordinator_address",
    None,
    "host:port of process 0 of several; SLURM, TPU and Open MPI tell by themselves.",
)
flags.DEFINE_integer("process_count", None, "How many processes there are.")
flags.DEFINE_integer("process_index", None, "Which of them this is, from 0.")
flags.DEFINE_integer(
    "heartbeat_timeout", 60, "Seconds after which a silent process counts as lost.", lower_bound=1
)
flags.DEFINE_integer(
    "meeting_timeout",
    3600,
    "Seconds after which a process that is alive, but does not come to the others, counts as lost.",
    lower_bound=1,
)
flags.DEFINE_string(
    "profile", "", "START:STOP: write a trace of the steps after START up to STOP to the workdir."
)


def main(argv: list[str]) -> None:
    """Joins the other processes, if there are any, and trains."""
    del argv
    config = command_line.required("config")
    remote.refuse(command_line.required("workdir"), "--workdir")

    from fgmm import xla_flags

    xla_flags.configure(deterministic=config.deterministic)

    from fgmm import devices
    from fgmm.train import distributed

    distributed.initialise(
        flags.FLAGS.coordinator_address,
        flags.FLAGS.process_count,
        flags.FLAGS.process_index,
        heartbeat_timeout=flags.FLAGS.heartbeat_timeout,
        meeting_timeout=flags.FLAGS.meeting_timeout,
    )
    devices.check_available()
    distributed.run_together(_train)


def _train() -> None:
    """Builds the objects of the config and runs the training loop."""
    import jax

    from fgmm import provenance
    from fgmm.eval import inside_training
    from fgmm.experiment import build as experiments
    from fgmm.interruption import Interrupted
    from fgmm.train import disk_space, distributed, loop

    # All objects made so far stay alive, and so do most that tracing makes. Scanning them again and
    # again would take a tenth of the time to the first step.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    command_line.use_compilation_cache()
    workdir = pathlib.Path(flags.FLAGS.workdir)
    with distributed.all_or_none():
        built = experiments.build(flags.FLAGS.config)
        source = built.training_source()
        evaluators = inside_training.from_config(built)
    distributed.check_agreement(built.config, workdir, provenance.commit())
    for line in command_line.left_out():
        distributed.say(line)
    distributed.say("config, where it differs from the defaults (checkpoints hold all of it):")
    for line in components.settings(built.config):
        distributed.say(f"  {line}")
    try:
        loop.train(built, source, workdir, evaluators, flags.FLAGS.profile)
    except Interrupted as stopped:
        distributed.say(str(stopped))
        sys.exit(stopped.exit_code)
    except loop.Diverged as error:
        sys.exit(f"error: {error}" if distributed.primary() else 1)
    except disk_space.DiskFull as error:
        if jax.process_count() > 1:  # the other processes do not know of it
            raise
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
