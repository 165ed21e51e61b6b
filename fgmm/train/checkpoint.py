"""Checkpoints: state, data position and config, written together and asynchronously by Orbax."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from fgmm import atomic, devices, folder_lock, remote
from fgmm.config import Config, ConfigError, as_dict, tuples, with_new_keys
from fgmm.experiment.build import Experiment, build
from fgmm.experiment.state import TrainState, check_weights
from fgmm.train import distributed, exported, recovery
from fgmm.train.continuing import check_config
from fgmm.train.exported import SavedState
from fgmm.train.kept import Kept, ranked

TOKENIZER = "tokenizer.model"
FOLDER = "checkpoints"
# Devices that hold the same array share the work of writing it if each writes at least so many
# bytes. Cutting smaller arrays costs more: XLA compiles a program for each shape and device.
_SHARED_BYTES = 4 * 2**20


class Checkpoints:
    """The checkpoints of a run.

    Args:
      workdir: of the run; its folder ``checkpoints`` has a folder for each step.
      experiment: its config is stored with each checkpoint. It must continue the run of the
        checkpoints that exist.
      options: ``config.checkpoint``.

    Raises:
      ConfigError: the workdir holds checkpoints of a run that this config does not continue.
    """

    def __init__(self, workdir: pathlib.Path, experiment: Experiment, options: Config):
        self._options, self.kept = options, Kept(options)
        self._experiment = experiment
        self._config = as_dict(experiment.config)
        self._last_save = time.monotonic()
        self._folder = (workdir / FOLDER).absolute()
        for step in recovery.steps(self._folder):
            try:
                saved = _restore_json(self._reader, step, "config")
            except Exception:  # damaged: ``restore`` handles it
                continue
            check_config(workdir, saved, self._config, step)
            break
        if experiment.tokenizer is not None and distributed.primary():
            _keep_tokenizer(workdir, experiment.tokenizer.model)

    @functools.cached_property
    def _reader(self) -> ocp.CheckpointManager:
        return recovery.reader(self._folder)

    @functools.cached_property
    def _manager(self) -> ocp.CheckpointManager:
        """Created after damaged checkpoints were moved away, by all processes together."""
        arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=_SHARED_BYTES)
        registry = ocp.type_handlers.create_type_handler_registry(
            (jax.Array, arrays),
            (np.ndarray, ocp.type_handlers.NumpyHandler()),
            (np.number, ocp.type_handlers.ScalarHandler()),
        )
        return ocp.CheckpointManager(
            self._folder,
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(type_handler_registry=registry),
                "config": ocp.JsonCheckpointHandler(),
                "position": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                # A kill during a save leaves a temporary folder behind.
                cleanup_tmp_directories=True,
                preservation_policy=self.kept,
            ),
        )

    @property
    def latest(self) -> int | None:
        """The last step saved, None before the first."""
        return self._manager.latest_step()

    def restore(self, shardings: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest intact state and its data position; None if nothing was saved yet.

        Damaged checkpoints are moved away. Every process has to call it.

        Args:
          shardings: of the restored arrays, on whichever devices they were saved.

        Raises:
          ConfigError: there are checkpoints, but none can be read; or a damaged one cannot be
            moved.
        """

        def read(step: int) -> tuple[TrainState, dict[str, Any]]:
            self._reader.metrics(step)
            position = _restore_json(self._reader, step, "position")
            _restore_json(self._reader, step, "config")
            state = _restore_state(self._reader, step, self._experiment, shardings)
            return state, position

        found = recovery.newest_whole(
            self._folder, read, glance=lambda step: self._reader.metrics(step)
        )
        recovery.set_aside(self._folder, found.damaged)
        return found.contents

    def due(self, step: int) -> bool:
        """Whether to save after ``step`` finished steps, by their number or by the time passed."""
        every_steps, minutes = self._options["every_steps"], self._options["every_minutes"]
        if every_steps and step % every_steps == 0:
            return True
        return bool(minutes) and time.monotonic() - self._last_save >= 60 * minutes

    def save(self, step: int, state: TrainState, position: Mapping[str, Any]) -> None:
        """Waits for an earlier write, starts to write a checkpoint and returns.

        It writes nothing if ``step`` is the last step saved.

        Args:
          step: finished steps.
          state: after these steps.
          position: of the data: ``next_step``, and what else must be known to continue; JSON.
        """
        if self.latest == step:
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(_items(state)),
                config=ocp.args.JsonSave(self._config),
                position=ocp.args.JsonSave(dict(position)),
            ),
            force=True,
        )
        self._last_save = time.monotonic()

    def amend(self, position: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """Replaces the position of the last checkpoint and adds scores, once it is written.

        Process 0 does it, and no process waits for another.

        Args:
          position: as in ``save``.
          scores: of evaluations of its state, among other numbers.
        """
        self.wait()
        folder, stored = self._folder / str(self.latest), self.kept.add(self.latest, scores)
        if distributed.primary():
            if stored is not None:
                _write_json(folder / "metrics" / "metrics", stored)
            # A start may have another ``best_metric`` than the one that saved the state.
            _write_json(folder / "config" / "metadata", self._config)
            _write_json(folder / "position" / "metadata", dict(position))

    def remove_surplus(self) -> None:
        """Removes checkpoints that are not among the best since scores were added.

        Every process has to call it.
        """

        def surplus() -> list[int]:
            saved = {step: self._manager.metrics(step) for step in self._manager.all_steps()}
            return sorted(saved.keys() - self.kept.steps(saved))

        for step in distributed.from_primary(surplus):
            self._manager.delete(step)

    def wait(self) -> None:
        """Returns once everything is written."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits until everything is written and closes the folder."""
        # Creating the manager waits for all processes, so closing must not create it.
        if "_manager" in vars(self):
            self.wait()
            self._manager.close()


def _write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes an item of a finished checkpoint, where and as Orbax does, all of it or nothing."""
    path.parent.mkdir(exist_ok=True)
    atomic.write_text(path, json.dumps(content))


def _keep_tokenizer(workdir: pathlib.Path, model: bytes) -> None:
    """Copies the tokenizer beside the checkpoints, so that they open with only their path."""
    target = workdir / TOKENIZER
    # A run that never saved anything may have left another tokenizer.
    if not target.exists() or target.read_bytes() != model:
        workdir.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(target, model)


def _restore_json(manager: ocp.CheckpointManager, step: int, item: str) -> dict[str, Any]:
    restored = manager.restore(step, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()}))
    return restored[item]


def _restore_state(
    manager: ocp.CheckpointManager,
    step: int,
    experiment: Experiment,
    shardings: TrainState | jax.sharding.Sharding,
) -> TrainState:
    """``shardings`` is a tree like the state, or one sharding for all arrays."""
    state = experiment.abstract_state
    abstract = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        state,
        jax.tree.broadcast(shardings, state),
    )
    restored = manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(_items(abstract)))
    )
    return TrainState(**restored["state"])


def _items(state: TrainState) -> dict[str, Any]:
    """The fields of a state that are stored. A state without moving average has no such item."""
    items = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: item for name, item in items.items() if item is not None}


def load(
    workdir: pathlib.Path, step: str = "latest", weights: str = ""
) -> tuple[Experiment, TrainState]:
    """Opens a checkpoint for evaluation; needs only its path.

    Args:
      workdir: of the run that wrote it, or a folder that ``fgmm.export`` wrote as safetensors.
      step: ``"latest"``, ``"best"`` (by ``config.checkpoint.best_metric``) or a number.
      weights: which parameters the state gets, as in ``TrainState.with_weights``.

    Returns:
      The experiment, and the state on the first local device.

    Raises:
      ConfigError: the devices asked for are not available, there is no such checkpoint, a file of
        it is damaged, the tokenizer beside it is not the one it was trained with, or it has no such
        weights.
    """
    workdir = pathlib.Path(workdir)
    devices.check_available()
    if _is_exported(workdir):
        saved = exported.read(workdir, step, weights)
        experiment = _built(workdir, saved.config)
        return experiment, exported.state(experiment, saved)
    with _damage_named(workdir, step):
        manager, chosen = _opened(workdir, step)
        config = with_new_keys(_restore_json(manager, chosen, "config"))
    check_weights(weights, bool(config["optimizer"]["ema"]))
    experiment = _built(workdir, config)
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with _damage_named(workdir, step):
        state = _restore_state(manager, chosen, experiment, sharding)
    manager.close()
    return experiment, state.with_weights(weights)


def weights_of(workdir: pathlib.Path, experiment: Experiment, weights: str = "") -> str:
    """Which parameters ``load`` gave: ``"ema"`` or ``"last"``.

    Args:
      workdir, weights: as they were given to ``load``.
      experiment: what ``load`` returned.
    """
    if _is_exported(workdir):
        return exported.weights_of(workdir)
    return weights or ("ema" if experiment.optimizer.ema else "last")


def _is_exported(workdir: pathlib.Path) -> bool:
    return not (workdir / FOLDER).exists() and exported.is_exported(workdir)


def _built(workdir: pathlib.Path, config: dict[str, Any]) -> Experiment:
    """What a saved config describes, with the tokenizer beside it."""
    for entry in config["objective"]["terms"].values():
        # The kernel runs only on some devices; a checkpoint must open on any.
        if entry.get("implementation") == "kernel":
            entry["implementation"] = None
    tokenizer = workdir / TOKENIZER
    return build(config, tokenizer if tokenizer.exists() else None)


def config_of(workdir: str | os.PathLike[str]) -> ml_collections.ConfigDict:
    """The config of a run's latest checkpoint, to make the config of another run of it.

    ``data.tokenizer`` is the path of the run's tokenizer. A config file may call this function. It
    reads only JSON: Orbax would initialise the devices before the processes of a run have met.

    Raises:
      ConfigError: there is no checkpoint, its config cannot be read, or ``workdir`` is remote.
    """
    remote.refuse(workdir, "workdir")
    workdir = pathlib.Path(workdir).expanduser()
    saved = exported.config_of(workdir) if _is_exported(workdir) else _config_of_run(workdir)
    config = ml_collections.ConfigDict(tuples(saved))
    if (workdir / TOKENIZER).exists():
        config.data.tokenizer = str(workdir / TOKENIZER)
    return config


def _config_of_run(workdir: pathlib.Path) -> dict[str, Any]:
    steps = recovery.steps(workdir / FOLDER)
    if not steps:
        raise ConfigError(f"{workdir} holds no checkpoints; give the folder of a run")
    path = workdir / FOLDER / str(steps[0]) / "config" / "metadata"
    try:
        return with_new_keys(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is missing or damaged ({error})") from error


def read(workdir: pathlib.Path, step: str = "latest", weights: str = "") -> SavedState:
    """Reads the arrays and the config of a checkpoint, without building its model.

    Args:
      workdir, step, weights: as in ``load``.

    Raises:
      ConfigError: there is no such checkpoint, a file of it is damaged, or it has no such weights.
    """
    devices.check_available()
    workdir = pathlib.Path(workdir)
    if _is_exported(workdir):
        return exported.read(workdir, step, weights)
    # Orbax needs the handlers to know the contents of a checkpoint.
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "config": ocp.JsonCheckpointHandler()}
    with _damage_named(workdir, step):
        manager, chosen = _opened(workdir, step, item_handlers=handlers)
        config = with_new_keys(_restore_json(manager, chosen, "config"))
        tree = manager.item_metadata(chosen)["state"].tree
        has_average = bool(tree.get("ema"))
        check_weights(weights, has_average)
        params = "ema" if has_average and weights != "last" else "params"
        wanted = {part: tree[part] for part in (params, "statistics")}
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        arguments = ocp.args.PyTreeRestore(wanted, restore_args=as_numpy, partial_restore=True)
        state = manager.restore(chosen, args=ocp.args.Composite(state=arguments))["state"]
    manager.close()
    return SavedState(chosen, config, state[params], state["statistics"])


@contextlib.contextmanager
def _damage_named(workdir: pathlib.Path, step: str) -> Iterator[None]:
    """Turns what Orbax raises for files that are cut short or missing into a ``ConfigError``."""
    try:
        yield
    # A device that is full or lost is no fault of the files.
    except (ConfigError, MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        raise ConfigError(
            f"--workdir={workdir}: its checkpoint (--step={step}) cannot be read, a file of it is "
            f"damaged or missing: {recovery.said_in_a_line(error)}; --step takes an older one"
        ) from error


def _opened(workdir: pathlib.Path, step: str, **options: Any) -> tuple[ocp.CheckpointManager, int]:
    """A run's checkpoints for reading, and the number of the step."""
    remote.refuse(workdir, "--workdir")
    folder = workdir / FOLDER
    if not folder.is_dir():
        raise ConfigError(f"--workdir={workdir} holds no checkpoints ({folder} is missing)")
    manager = ocp.CheckpointManager(
        folder.absolute(), options=ocp.CheckpointManagerOptions(read_only=True), **options
    )
    steps = sorted(manager.all_steps())
    if not steps:
        raise ConfigError(f"--workdir={workdir} holds no finished checkpoint")
    if step == "latest":
        return manager, steps[-1]
    if step == "best":
        return manager, _best(manager, steps)
    if step.isdecimal() and int(step) in steps:
        return manager, int(step)
    allowed = ", ".join(map(str, steps))
    raise ConfigError(
        f"there is no checkpoint of --step={step!r}; allowed: latest, best, {allowed}"
    )


def _best(manager: ocp.CheckpointManager, steps: list[int]) -> int:
    options = _restore_json(manager, steps[-1], "config")["checkpoint"]
    best = ranked(options, {step: manager.metrics(step) for step in steps})
    if not best:
        raise ConfigError(
            f"--step=best: no checkpoint has checkpoint.best_metric={options['best_metric']!r}; "
            "use latest"
        )
    return best[-1]


# What a run makes in its folder.
_FOLDERS = (FOLDER, "damaged", "events", "profile")
_FILES = (TOKENIZER, "metrics.jsonl", "provenance.jsonl")


class WorkdirLock:
    """Creates a workdir and locks it for one run; the kernel releases the lock however the run
    ends.

    Process 0 holds the lock; the others check that they see its file.

    Raises:
      ConfigError: another live run has the lock, the workdir holds exported weights or cannot be
        written, or a process does not see it.
    """

    def __init__(self, workdir: pathlib.Path):
        self._file = None
        path = workdir / ".lock"
        with distributed.all_or_none():
            remote.refuse(workdir, "--workdir")
            if distributed.primary():
                self._file = _locked(workdir)
        with distributed.all_or_none():
            if not distributed.primary() and not _appears(path):
                raise ConfigError(
                    f"--workdir={workdir} is not the folder that process 0 locked; use storage "
                    "that all processes share"
                )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._file is not None:
            self._file.close()


def _locked(workdir: pathlib.Path) -> TextIO:
    if not recovery.steps(workdir / FOLDER):
        exported.refuse(workdir)
    file = folder_lock.locked(workdir, "--workdir")
    for name in (*_FOLDERS, *_FILES):
        path = workdir / name
        kind, fits = ("folder", path.is_dir()) if name in _FOLDERS else ("file", path.is_file())
        if path.exists() and not fits:
            file.close()
            raise ConfigError(
                f"--workdir={workdir}: {name} is no {kind}, as a run has it; move it away or give "
                "another workdir"
            )
    return file


def _appears(path: pathlib.Path, seconds: float = 20.0) -> bool:
    """Waits for a file, which network storage may show later on other machines."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
