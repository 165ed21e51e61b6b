"""Writes shards with Apache Beam: each shard is an element, written by any one machine.

All machines must see the folders of the corpus and of the output under the same paths.
"""

from collections.abc import Sequence

from fgmm.config import ConfigError
from fgmm.data.preparation.disk import OutputFailed
from fgmm.data.preparation.task import Task


def write(
    task: Task, remaining: Sequence[tuple[str, int]], runner: str, options: Sequence[str]
) -> None:
    """Writes shards.

    Args:
      task: the preparation.
      remaining: the shards, as (split, number).
      runner: name of a Beam runner.
      options: of the runner, as ``--name=value``.

    Raises:
      ConfigError: Beam is not installed, or knows no such runner.
      OutputFailed: the pipeline failed; what is finished stays.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--beam_runner={runner} needs Apache Beam, which has versions of its own: "
            "pip install -e .[beam] -c constraints-beam.txt in an environment apart"
        ) from error
    try:
        pipeline = beam.Pipeline(runner, options=PipelineOptions([*options]))
    except (ValueError, ImportError, AttributeError) as error:
        raise ConfigError(f"--beam_runner={runner} cannot be used ({error})") from error
    shards = pipeline | beam.Create(list(remaining)) | beam.Reshuffle()
    shards | beam.MapTuple(task.write) | beam.Map(lambda entry: entry["file"])
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:  # runners wrap what went wrong in many ways
        raise OutputFailed(f"Apache Beam's {runner} failed: {error}") from error
