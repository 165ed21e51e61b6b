"""A page on which a sentence, a picture or a sound finds clips of a corpus.

    python -m fgmm.report.search --workdir=RUN --source=NAME[:option=value,...] [--input=FOLDER]

Without ``--source`` the corpus is that of the run's first evaluation. The program first embeds all
clips, once for each checkpoint and corpus. Then it prints the address of the page, which only this
machine can open unless ``--host`` names another address. Needs the extra ``search``.
"""

import contextlib
import errno
import os
import pathlib
import socket
from collections.abc import Mapping
from typing import Any

from absl import flags

from fgmm import command_line, xla_flags
from fgmm.config import ConfigError
from fgmm.data.preparation import raw as raws
from fgmm.eval import binary

_BATCH = 64
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def banks(experiment: Any, state: Any, source: Any, space: str) -> dict[str, Any]:
    """The banks of a corpus, by ``"video"``, ``"audio"`` and ``"audio_segments"``.

    A modality that the space lacks, or that no clip has, is left out.

    Args:
      experiment, state: of the checkpoint.
      source: the corpus, opened.
      space: of the embeddings.

    Raises:
      ConfigError: no clip of the corpus has frames or sound that can be read.
    """
    from fgmm.eval import corpus_embeddings

    sizes = {"video": {"samples": 0, "tokens": 0}, "audio": {"frames": 0, "tokens": 0}}
    there = experiment.model.spaces[space]["modalities"]
    ids = [str(record) for record in range(len(source))]
    found = {}
    for modality, others in sizes.items():
        if modality not in there:
            continue
        network = corpus_embeddings.trained(experiment, state, local=True)
        assembler = experiment.assembler(source, **others)
        (embedded,) = corpus_embeddings.of_corpus(
            experiment, state, assembler, network, batch_size=_BATCH
        )
        if not embedded.mask.any():
            continue
        found[modality] = embedded.bank(space, ids)
        if modality == "audio" and "video" in there:
            found["audio_segments"] = embedded.bank(space, ids, segments=True)
    if not found:
        raise ConfigError("search: no clip of the corpus has pictures or sound that can be read")
    return found


def entry_of(experiment: Any) -> Mapping[str, Any]:
    """The corpus that ``--source`` names, or that of the run's first evaluation."""
    from fgmm.report import alignment

    given = flags.FLAGS
    if given.source is None:
        return alignment.source_of_run(experiment)
    chosen = raws.choose(given.source, raw=False)
    root = {"root": given.input} if given.input else {}
    return {"name": chosen.name, **chosen.options, **root}


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0 takes any free port.

    Raises:
      ConfigError: the address is in use, or does not belong to this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"--host={host} --port={port} cannot be listened on: {_reason(error)}"
        ) from error


def _reason(error: OSError) -> str:
    # Errors in looking up a name have codes that are no errno.
    known = error.errno in errno.errorcode
    return os.strerror(error.errno) if known else str(error.strerror or error)


def main(argv: list[str]) -> None:
    """Embeds the corpus and serves the page until it is stopped."""
    del argv
    workdir, given = pathlib.Path(command_line.required("workdir")), flags.FLAGS
    try:
        import uvicorn

        from fgmm.report import search_server
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the search page needs the package {error.name!r}: pip install 'fgmm[search]'"
        ) from error
    listening = bound(given.host, given.port)
    xla_flags.configure()
    command_line.use_compilation_cache()
    from fgmm.report.alignment import name_of
    from fgmm.report.finder import Finder, space_for
    from fgmm.train import checkpoint
    from fgmm.trained import Model

    experiment, state = checkpoint.load(workdir, given.step)
    model = Model(binary.keeping_embeddings(experiment, workdir), state)
    entry, space = entry_of(model.experiment), space_for(model)
    source = model.experiment.source(entry, "source")
    if not len(source):
        raise ConfigError(f"the corpus {entry['name']!r} holds no clip")
    finder = Finder(model, banks(model.experiment, model.state, source, space), space)
    with contextlib.suppress(ValueError):  # The tokenizer may know none of these words.
        # Compiles the programs before the first query.
        finder.by_text("a man and a dog", finder.items[0], 1)
    application = search_server.application(
        finder,
        source,
        title=f"Search {name_of(entry)} with {workdir.absolute().name}",
        hosts=[*_LOOPBACK, given.host, *given.allow_host],
        upload_bytes=given.upload_megabytes * 2**20,
    )
    host, port = listening.getsockname()[:2]
    print(f"search: http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    config = uvicorn.Config(application, log_level="warning", lifespan="off")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run whose checkpoint embeds.")
    flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best or a step.")
    flags.DEFINE_string(
        "source", None, "The corpus: a file's name in fgmm/data/sources; NAME:option=value,..."
    )
    flags.DEFINE_string("input", None, "Its folder, for a corpus that has one.")
    binary.define_embeddings()
    flags.DEFINE_string("host", "127.0.0.1", "The address to listen on; 0.0.0.0 for every network.")
    flags.DEFINE_integer("port", 8080, "The port; 0 for any that is free.", 0, 65535)
    flags.DEFINE_multi_string("allow_host", [], "A further name by which the page may be called.")
    flags.DEFINE_integer("upload_megabytes", 32, "The largest file that may be dropped.", 1, 1024)
    command_line.run(main)
