"""The outputs of a model for all clips of a corpus, computed once and shared by all evaluations.

``of_corpus`` reads one modality of a corpus and returns, for each record, the outputs of
``fgmm.experiment.outputs``: pooled features, coarse embeddings and, on request, local embeddings.
If ``Experiment.embeddings_folder`` is set (the programs set it to ``WORKDIR/embeddings``), the
outputs are kept in memory-mapped files. Their key holds all that they depend on: the step and a
digest of the parameters, the corpus with its options and fingerprint, sizes and transforms, and the
code. A later call with the same key opens the files. After a kill, the same call continues where
the files end.

The folder may be removed at any time. Outputs are not kept inside training, with several processes,
or for a source that is no dataclass, since nothing then names its options.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import inspect
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from jaxtyping import Bool, Float, Int32

from fgmm import atomic, components, provenance
from fgmm.config import ConfigError, as_dict
from fgmm.data import fingerprint, opening, pipeline
from fgmm.data.pipeline import Assembler
from fgmm.eval import passes
from fgmm.eval.bank import Bank
from fgmm.experiment.build import Experiment
from fgmm.experiment.outputs import WAYS
from fgmm.experiment.state import TrainState
from fgmm.models.embeddings import Embeddings

# Seconds between updates of the file that says how far the others go.
_NOTE_EVERY = 5.0
_PROGRESS, _KEY = "progress.json", "key.json"


@dataclasses.dataclass(frozen=True, eq=False)
class CorpusEmbeddings:
    """The outputs of a model for R records of a corpus, in their order.

    Attributes:
      modality: ``"video"``, ``"audio"`` or ``"text"``.
      arrays: the outputs by name, [R,...], or [R,K,...] for text. Beside them ``mask``, [R] or
        [R,K], says which could be read, and ``problems`` [R] holds bits of ``schema.REASONS``.
    """

    modality: str
    arrays: Mapping[str, np.ndarray]

    @property
    def mask(self) -> Bool[np.ndarray, "R *K"]:
        """Which records, or captions of records, could be read."""
        return self.arrays["mask"]

    @property
    def problems(self) -> Int32[np.ndarray, "R"]:
        """The problems of each record, as bits of ``schema.REASONS``."""
        return self.arrays["problems"]

    def embeddings(self, space: str, *, segments: bool = False) -> Embeddings:
        """The embeddings in a space.

        Without local embeddings, the coarse one takes their place, N = 1.

        Args:
          space: name of the space.
          segments: return the time segments of audio, the phrases of ``video_audio``.
        """
        name = f"{space}/segments" if segments else space
        parts = ("local", "mask", "coarse", "gates")
        local, mask, coarse, gates = (self.arrays.get(f"{name}/{part}") for part in parts)
        if local is None:
            local, mask = coarse[..., None, :], mask.any(axis=-1, keepdims=True)
        found = Embeddings(local, mask, coarse, gates)
        # Segments have an axis K of length 1.
        return jax.tree.map(lambda v: v[:, 0], found) if segments else found

    def features(self, pool: str) -> Float[np.ndarray, "R F"]:
        """The pooled output of the encoder.

        Args:
          pool: names in ``outputs.WAYS``, joined by ``_``; several features are concatenated.
        """
        ways = [way for way in WAYS if way in pool.split("_")]
        return np.concatenate([self.arrays[f"features/{way}"] for way in ways], axis=1)

    def logits(self, classifier: str) -> Float[np.ndarray, "R classes"]:
        """The logits of a classifier, by its name."""
        return self.arrays[f"classifiers/{classifier}"]

    def bank(self, space: str, ids: Sequence[str], *, segments: bool = False) -> Bank:
        """The clips of video or audio as a bank to search in.

        Without local embeddings it is a bank of coarse embeddings alone.

        Args:
          space, segments: as in ``embeddings``.
          ids: of the records.
        """
        found = self.embeddings(space, segments=segments)
        local = found.local if f"{space}/local" in self.arrays else None
        return Bank(found.coarse, local, found.mask, ids, found.gates)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network whose outputs are computed.

    Attributes:
      identity: returns what the parameters depend on, as values for JSON.
      compute: maps a state and a batch to outputs by name.
      local: whether the outputs hold local embeddings.
    """

    identity: Callable[[], Mapping[str, Any]]
    compute: Callable[[Any, pipeline.Batch], Mapping[str, jax.Array]]
    local: bool


def trained(experiment: Experiment, state: TrainState, *, local: bool) -> Network:
    """The network with the parameters of a state.

    Args:
      experiment, state: of the checkpoint.
      local: whether to compute local embeddings too.
    """
    return Network(
        lambda: {"step": int(state.step), "parameters": _digest_of(state)},
        lambda state, batch: experiment.represent(state, batch, local),
        local,
    )


def untrained(experiment: Experiment) -> Network:
    """The network before its first step, without local embeddings."""
    seed = experiment.config.seed
    return Network(
        lambda: {"step": "untrained", "seed": seed},
        lambda _, batch: experiment.represent_untrained(seed, batch),
        False,
    )


def of_corpus(
    experiment: Experiment,
    state: Any,
    assembler: Assembler,
    *networks: Network,
    batch_size: int,
) -> list[CorpusEmbeddings]:
    """The outputs of networks for a corpus, which is read once for all of them.

    Args:
      experiment: of the checkpoint; its ``embeddings_folder`` says where outputs are kept.
      state: the train state that the networks compute from, on one device, or on a mesh whose
        devices share the work.
      assembler: of the corpus; only one modality has a size above 0.
      networks: as ``trained`` and ``untrained`` return them.
      batch_size: records at a time.

    Returns:
      The outputs of each network, in the order of ``networks``.

    Raises:
      ConfigError: the folder of the embeddings cannot be written.
    """
    stores = [_store(experiment, assembler, network) for network in networks]
    with contextlib.ExitStack() as stack:
        for store in stores:
            stack.enter_context(store)
        waiting = [
            (network, store)
            for network, store in zip(networks, stores, strict=True)
            if store.done < len(assembler.source)
        ]
        if waiting:
            _compute(waiting, state, assembler, batch_size)
        modality = _modality(assembler)
        return [CorpusEmbeddings(modality, store.arrays) for store in stores]


def _compute(waiting, state: Any, assembler: Assembler, batch_size: int) -> None:
    records, modality = len(assembler.source), _modality(assembler)
    first = min(store.done for _, store in waiting)

    def compute(state, batch):
        return [network.compute(state, batch) for network, _ in waiting]

    shown = {"total": records, "initial": first, "unit": " clips", "desc": f"embedding {modality}"}
    quiet = records <= batch_size or jax.process_index() > 0
    with tqdm.tqdm(**shown, leave=False, disable=True if quiet else None) as progress:
        start = first
        for batch, found, count in passes.batches(assembler, batch_size, state, compute, first):
            of_batch = {"mask": batch[f"{modality}_mask"], "problems": batch["problems"]}
            for (_, store), outputs in zip(waiting, found, strict=True):
                rows = {name: x[:count] for name, x in {**outputs, **of_batch}.items()}
                store.write(start, rows)
            start += count
            progress.update(count)


def _modality(assembler: Assembler) -> str:
    shape = assembler.shape
    sizes = {"video": shape.frames, "audio": shape.samples, "text": shape.tokens}
    (modality,) = (name for name, size in sizes.items() if size)
    return modality


class _InMemory:
    """Outputs that are held in memory and not kept.

    Attributes:
      arrays: the outputs by name.
      done: how many records they hold from an earlier call.
    """

    def __init__(self, records: int):
        self.done, self._records = 0, records
        self.arrays: dict[str, np.ndarray] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def write(self, start: int, rows: Mapping[str, np.ndarray]) -> None:
        """Stores the outputs of the records from ``start`` on."""
        for name, values in rows.items():
            if name not in self.arrays:
                shape = (self._records, *values.shape[1:])
                self.arrays[name] = self._blank(name, shape, values.dtype)
            self.arrays[name][start : start + len(values)] = values

    def _blank(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        del name
        return np.zeros(shape, dtype)


class _Kept(_InMemory):
    """Outputs in memory-mapped files; a lock lets one process at a time read and write them.

    Args:
      folder: of the files.
      records: how many the corpus has.
      key: what the outputs depend on.

    Raises:
      ConfigError: the folder cannot be written.
    """

    def __init__(self, folder: pathlib.Path, records: int, key: Mapping[str, Any]):
        super().__init__(records)
        self._folder, self._key = folder, key
        self._noted = time.monotonic()

    def __enter__(self):
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self._folder / ".lock").open("a")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for a process that fills {self._folder}", file=sys.stderr)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            (self._folder / _KEY).write_text(json.dumps(self._key, indent=2, default=str) + "\n")
        except OSError as error:
            raise ConfigError(
                f"{self._folder} cannot be written ({error.strerror}); --embeddings= gives another "
                "folder, --embeddings=none keeps nothing"
            ) from error
        self._find()
        return self

    def __exit__(self, *_):
        if 0 < self.done < self._records:
            self._note()
        self._lock.close()

    def _find(self) -> None:
        """Opens what an earlier call wrote; if a file is damaged, everything is computed again."""
        try:
            noted = json.loads((self._folder / _PROGRESS).read_text())
            mode = "r" if noted["done"] == self._records else "r+"
            arrays = {}
            for name in noted["arrays"]:
                arrays[name] = np.lib.format.open_memmap(self._path(name), mode)
                if len(arrays[name]) != self._records:
                    raise ValueError(f"{name} has {len(arrays[name])} rows")
            self.arrays, self.done = arrays, noted["done"]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError) as error:
            print(f"{self._folder} is damaged and computed anew: {error}", file=sys.stderr)

    def _blank(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.lib.format.open_memmap(self._path(name), "w+", dtype, shape)

    def _path(self, name: str) -> pathlib.Path:
        return self._folder / f"{name.replace('/', '.')}.npy"

    def write(self, start: int, rows: Mapping[str, np.ndarray]) -> None:
        """Stores the outputs of the records from ``start`` on; ``_note`` brings them to disk."""
        super().write(start, rows)
        self.done = max(self.done, start + len(rows["mask"]))
        if self.done == self._records or time.monotonic() - self._noted > _NOTE_EVERY:
            self._note()

    def _note(self) -> None:
        for array in self.arrays.values():
            array.flush()
        noted = json.dumps({"done": self.done, "arrays": sorted(self.arrays)})
        atomic.write_text(self._folder / _PROGRESS, noted)
        self._noted = time.monotonic()


def _store(experiment: Experiment, assembler: Assembler, network: Network) -> _InMemory | _Kept:
    records, root = len(assembler.source), experiment.embeddings_folder
    if root is None or jax.process_count() > 1 or not dataclasses.is_dataclass(assembler.source):
        return _InMemory(records)
    key = _key(experiment, assembler, network)
    # A complete store with local embeddings also serves a caller that needs none.
    for local in (True,) if network.local else (True, False):
        folder = root / _name(key | {"local": local})
        if local == network.local or _complete(folder, records):
            break
    return _Kept(folder, records, key | {"local": local})


def _complete(folder: pathlib.Path, records: int) -> bool:
    try:
        return json.loads((folder / _PROGRESS).read_text())["done"] == records
    except (OSError, ValueError, KeyError):
        return False


def _name(key: Mapping[str, Any]) -> str:
    text = json.dumps(key, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{key['modality']}-{key['network']['step']}-{digest}"


def _key(experiment: Experiment, assembler: Assembler, network: Network) -> dict[str, Any]:
    """Everything that the outputs depend on."""
    config, source, modality = experiment.config, assembler.source, _modality(assembler)
    options = {f.name: getattr(source, f.name) for f in dataclasses.fields(source)}
    parts = {type(source), *_sources(options), *map(type, experiment.model.encoders.values())}
    # A part may be defined outside this package.
    code = {pathlib.Path(inspect.getfile(part)) for part in parts}
    key = {
        "modality": modality,
        "network": dict(network.identity()),
        **{name: as_dict(config[name]) for name in ("model", "transforms", "lora")},
        "phrases": experiment.shape.phrases,
        "batch": dataclasses.asdict(assembler.shape),
        "source": f"{type(source).__module__}:{type(source).__qualname__}",
        "options": options,
        "corpus": fingerprint.of_source(source),
        "time_limit": assembler.time_limit,
        "code": provenance.code_digest(*sorted(code)),
        "jax": f"{jax.__version__} on {jax.default_backend()}",
        "precision": str(jax.config.jax_default_matmul_precision),
    }
    if modality == "text":
        key |= {
            "tokenizer": config.data.tokenizer_fingerprint,
            "segmenter": assembler.segmenter,
            "join_captions": assembler.join_captions,
        }
    return key


def _sources(options: Mapping[str, Any]) -> Iterator[type]:
    """The classes of the sources within a source, from its options."""
    for entry in opening.within(options):
        yield components.find("data.sources", entry["name"])
        yield from _sources(entry)


def _digest_of(state: TrainState) -> str:
    digest = hashlib.sha256()
    tree = (state.params["model"], state.statistics)
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}\0".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]
