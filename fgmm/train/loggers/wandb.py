"""Weights & Biases: ``config.loggers.wandb = {"name": "wandb", "project": "shapes"}``."""

import dataclasses
import secrets

from fgmm.config.option import check_options, option
from fgmm.train.loggers import Run, RunSink, Sink, check_package


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logger:
    """Logs every step to Weights & Biases; a resumed run continues its run there.

    Its files are in ``WORKDIR/wandb``. Steps that are repeated after a kill are not logged again:
    Weights & Biases keeps their first values.
    """

    project: str = option("fgmm", help="The project.")
    entity: str = option("", help="The user or team that it belongs to; empty for one's own.")
    run_name: str = option("", help="Of the run; empty for the name of the workdir.")
    mode: str = option(
        "online",
        choices=("online", "offline"),
        help="Whether to send at once, or to keep the run for `wandb sync`.",
    )
    timeout: float = option(30.0, above=0, help="Seconds in which its server has to answer first.")

    def __post_init__(self):
        check_options(self)
        check_package("wandb")

    def open(self, run: Run) -> Sink:
        """Starts a run there, or continues the one that the workdir has started."""
        import wandb  # takes a second

        if self.mode == "online":
            wandb.Api()  # Raises without an API key; init would prompt for one and wait.
        identity = run.workdir / "wandb" / "id"
        identity.parent.mkdir(exist_ok=True)
        if not identity.exists():
            identity.write_text(secrets.token_hex(4))
        started = wandb.init(
            project=self.project,
            entity=self.entity or None,
            name=self.run_name or run.workdir.absolute().name,
            id=identity.read_text(),
            resume="allow",
            dir=run.workdir,
            config=run.config,
            mode=self.mode,
            settings=wandb.Settings(init_timeout=self.timeout, console="off"),
        )
        return RunSink(started)
