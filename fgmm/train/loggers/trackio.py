"""trackio, which keeps runs on this machine: ``config.loggers.trackio = {"name": "trackio"}``.

``trackio show --project fgmm`` opens its page.
"""

import dataclasses

from fgmm.config.option import check_options, option
from fgmm.train.loggers import Run, RunSink, Sink, check_package


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logger:
    """Logs every step to trackio; a resumed run continues its trackio run."""

    project: str = option("fgmm", help="The project.")
    run_name: str = option("", help="Of the run; empty for the name of the workdir.")
    space: str = option(
        "", help="A Space of Hugging Face to log to; empty for this machine, without a network."
    )

    def __post_init__(self):
        check_options(self)
        check_package("trackio")

    def open(self, run: Run) -> Sink:
        """Starts a trackio run, or continues the one of this name."""
        import trackio  # takes a second

        return RunSink(
            trackio.init(
                project=self.project,
                name=self.run_name or run.workdir.absolute().name,
                space_id=self.space or None,
                config=run.config,
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        )
