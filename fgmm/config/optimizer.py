"""The options of ``config.optimizer``, each declared once; see ``fgmm.experiment.optimizer``.

The options of the chosen optimizer itself, such as ``b1``, stand beside these in the config.
"""

import dataclasses

from fgmm.config.option import option

SCHEDULES = ("cosine", "linear", "constant", "rsqrt")

# Parameters without weight decay by default: vectors, temperatures and noise rates.
UNDECAYED = ".*(bias|scale|class_token|temperature.*|null.*|noise_rate.*)$"


@dataclasses.dataclass(frozen=True)
class ScheduleSection:
    """``config.optimizer.schedule``: the learning rate of each step, as a share of its peak.

    ``warmup`` and ``cooldown`` are numbers of steps, or shares of ``config.steps`` if below 1.
    """

    name: str = option("cosine", choices=SCHEDULES, help="Shape after the warmup.")
    warmup: float = option(
        0.1, low=0.0, help="Linear from 0 to the peak: steps, or a share of all if below 1."
    )
    cooldown: float = option(
        0.0,
        low=0.0,
        help="Linear to `end` over the last steps, or share of all; of constant and rsqrt.",
    )
    end: float = option(0.0, low=0.0, high=1.0, help="Share of the peak at the end.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSection:
    """``config.optimizer``. A parameter follows the first rule (regex, value) whose regex matches
    its whole path.
    """

    name: str = option("adamw", help="An optimizer in fgmm.experiment.factories.")
    learning_rate: float = option(1e-3, low=0.0, help="At the peak of the schedule.")
    schedule: ScheduleSection = option()
    clip_norm: float = option(1.0, low=0.0, help="Global norm of gradients; 0 for no limit.")
    weight_decay: tuple = option(((UNDECAYED, 0.0), (".*", 0.01)), help="(regex, number).")
    learning_rate_scale: tuple = option((), help='(regex, number or "frozen"); 1 without a rule.')
    layer_decay: float = option(
        1.0, above=0.0, high=1.0, help="Learning rate of a layer over that of the next; 1 for none."
    )
    ema: float = option(
        0.0, low=0.0, high=1.0, help="Decay of the moving average of parameters; 0 for none."
    )
