"""The options of ``config.optimizer``, each declared once; see ``fgmm.experiment.optimizer``.

The options of the optimizer that ``name`` stands for, such as ``b1``, lie beside these.
"""

import dataclasses
from typing import Any

from fgmm.config.option import option

SCHEDULES = ("cosine", "linear", "constant", "rsqrt")

# Paths of what is not decayed by default: vectors, temperatures, gates.
_UNDECAYED = ".*(bias|scale|temperature.*|null.*)$"


@dataclasses.dataclass(frozen=True)
class ScheduleSection:
    """``config.optimizer.schedule``: the learning rate as a share of its peak, step by step.

    ``warmup`` and ``cooldown`` are whole steps, or a share of ``config.steps`` if below 1.
    """

    name: str = option("cosine", choices=SCHEDULES, help="shape after the warmup")
    warmup: float = option(0.1, low=0.0, help="linear from 0 to the peak")
    cooldown: float = option(
        0.0, low=0.0, help="linear to `end` over the last steps; of constant and rsqrt"
    )
    end: float = option(0.0, low=0.0, high=1.0, help="share of the peak at the end")


@dataclasses.dataclass(frozen=True)
class OptimizerSection:
    """``config.optimizer``. Of rules (regex, value) the first that matches a whole path holds."""

    name: str = option("adamw", help="a name in fgmm.experiment.factories")
    learning_rate: float = option(1e-3, low=0.0, help="at the peak of the schedule")
    schedule: ScheduleSection = dataclasses.field(default_factory=ScheduleSection)
    clip_norm: float = option(1.0, low=0.0, help="global norm of gradients; 0 for no limit")
    weight_decay: tuple = option(((_UNDECAYED, 0.0), (".*", 0.01)), help="(regex, number)")
    learning_rate_scale: tuple = option((), help='(regex, number or "frozen"); 1 without a rule')
    layer_decay: float = option(
        1.0, above=0.0, high=1.0, help="learning rate of a layer over that of the next; 1 for none"
    )
    ema: float = option(
        0.0, low=0.0, high=1.0, help="decay of the moving average of parameters; 0 for none"
    )


def section_defaults() -> dict[str, Any]:
    """The keys of ``config.optimizer`` with their defaults, but for those of ``name``."""
    return dataclasses.asdict(OptimizerSection())


def bounds() -> dict[str, tuple[float | None, float | None]]:
    """The least and the greatest value of each number, by its whole key."""
    sections = {"optimizer": OptimizerSection, "optimizer.schedule": ScheduleSection}
    return {
        f"{section}.{field.name}": (field.metadata["low"], field.metadata["high"])
        for section, options in sections.items()
        for field in dataclasses.fields(options)
        if field.metadata.get("low") is not None
    }
