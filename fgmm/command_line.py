"""Shared by the programs of this package: flags, errors in one line, exit codes.

Exit codes: 0 done; 1 the run failed; 2 the command or its config is wrong; 130 and 143 stopped by
Ctrl-C and SIGTERM (training saves everything first).
"""

import itertools
import os
import pathlib
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from fgmm import components, remote
from fgmm.config import ConfigError, files
from fgmm.config.option import described

WRONG_COMMAND = 2

# The spellings of the flag that ``define_config`` defines.
_CONFIG = ("-config", "--config")


def run(main: Callable[[list[str]], int | None]) -> None:
    """Parses flags, runs ``main`` and exits with the code that it returns.

    A wrong command prints one line to standard error and exits with code 2.

    Args:
      main: the program; takes the arguments that are not flags, and returns an exit code, or None
        for 0.
    """

    def checked(argv: list[str]) -> int | None:
        if argv[1:]:
            fail(f"unexpected argument {argv[1]!r}; options are --name=value")
        try:
            return main(argv)
        except ConfigError as error:
            fail(str(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)

    app.run(checked, flags_parser=_parse)


def fail(message: str) -> None:
    """Prints an error as one line to standard error and exits with code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(WRONG_COMMAND)


class _ConfigFile(flags.ArgumentParser):
    """Parses a config file as ml_collections does, and prepares it for the flags that change it.

    Attributes:
      options: a dataclass that declares the keys of the file; None if they depend on the file.
      left_out: a line for each component that a flag replaced, with the options that were dropped.
    """

    def __init__(self, inner: flags.ArgumentParser, options: Any):
        self._inner = inner
        self.options = options
        self.left_out: list[str] = []

    def parse(self, path: str) -> Any:
        config = self._inner.parse(path)
        if isinstance(config, ml_collections.ConfigDict):
            self.left_out = components.renamed(config, _overrides())
        return config

    def flag_type(self) -> str:
        return self._inner.flag_type()


def define_config(
    help: str, options: Any = None, flag_values: flags.FlagValues = flags.FLAGS
) -> None:
    """Defines ``--config=FILE.py[:key=value,...]``. Each key of the file is a flag too,
    ``--config.KEY=value``.

    Args:
      help: what the file describes.
      options: a dataclass of the file's keys, for ``--help``; None if they depend on the file.
      flag_values: where the flag is defined.
    """
    config_flags.DEFINE_config_file("config", None, help, flag_values)
    flag = flag_values["config"]
    flag.parser = _ConfigFile(flag.parser, options)


def left_out() -> list[str]:
    """A line for each component that a flag replaced, with the options that were dropped; see
    ``components.renamed``.
    """
    return flags.FLAGS["config"].parser.left_out


def _overrides() -> dict[str, str]:
    """The config keys that the command line sets, with their values as text."""
    argv = flags.FLAGS.read_flags_from_files(sys.argv, force_gnu=False)
    found = {}
    for name, value in _read(argv):
        if key := re.fullmatch(r"--?(?:no)?config\.(.+)", name, re.DOTALL):
            found[key[1]] = value
    return found


def _read(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The arguments as pairs: what stands before ``=``, and what after it. An argument without it
    has the next one as its value.
    """
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        yield name, value if equals else following


def _help() -> str:
    """The purpose of the program, its flags, and the options of its config."""
    parts = [sys.modules["__main__"].__doc__ or ""]
    for module in flags.FLAGS.flags_by_module_dict():
        if module == sys.argv[0] or module.partition(".")[0] in ("fgmm", "benchmarks"):
            parts.append(flags.FLAGS.module_help(module))
    parser = flags.FLAGS["config"].parser if "config" in flags.FLAGS else None
    if isinstance(parser, _ConfigFile) and parser.options:
        parts += ["", "Keys of the config, with their defaults:"]
        parts += described(parser.options, "--config.")
    return "\n".join(parts)


def _parse(argv: list[str]) -> list[str]:
    if {"-h", "-help", "--help", "--helpshort", "--helpfull"} & set(argv[1:]):
        print(_help())
        sys.exit(0)
    try:
        argv = _with_paths(with_home(argv))
        rest = flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        fail(f"{error}; --help lists the flags")
    # A config file is executed while flags are parsed, so all of its errors are caught here.
    except Exception as error:
        fail(_explained(error, argv))
    if "config" in flags.FLAGS and not isinstance(
        flags.FLAGS.config, ml_collections.ConfigDict | None
    ):
        fail(f"--config={given('config', argv)} cannot be read: there is no such file")
    # Orbax logs dozens of lines for each checkpoint; --verbosity=0 shows them.
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)
    return rest


def with_home(argv: Sequence[str]) -> list[str]:
    """The arguments with ``~`` expanded in ``--flag=~/path``, where shells do not expand it."""
    found = []
    for argument in argv:
        flag, equals, value = argument.partition("=")
        home = flag.startswith("-") and value.startswith("~")
        found.append(flag + equals + os.path.expanduser(value) if home else argument)
    return found


def _with_paths(argv: list[str]) -> list[str]:
    """The arguments with the name of the config file replaced by its path."""
    if "config" not in flags.FLAGS:
        return argv
    found = argv[:1]
    for former, argument in itertools.pairwise(argv):
        flag, _, value = argument.partition("=")
        if flag in _CONFIG and value:
            argument = f"{flag}={files.resolved(value)}"
        elif former in _CONFIG and argument:
            argument = files.resolved(argument)
        found.append(argument)
    return found


def _explained(error: Exception, argv: list[str]) -> str:
    """One line about an error in parsing flags. The error's message may hold a whole traceback."""
    cause = error.__context__ if isinstance(error.__context__, ConfigError) else error
    last_line = (str(cause) or type(cause).__name__).splitlines()[-1]
    if isinstance(cause, ConfigError) or "ConfigError: " in last_line:
        return last_line.rpartition("ConfigError: ")[2]
    # If another flag than --config is wrong, absl's line names that flag.
    if other := re.match("flag (--(?!config=).*)", last_line):
        return other[1]
    return f"--config={given('config', argv)}: {last_line}"


def given(flag: str, argv: Sequence[str] | None = None) -> str:
    """The value of a flag as typed on the command line; empty if the flag is absent. As in absl the
    last one counts, with one dash or two.
    """
    found = ""
    for name, value in _read(sys.argv if argv is None else argv):
        if name in (f"-{flag}", f"--{flag}"):
            found = value
    return found


def required(flag: str) -> Any:
    """The value of a flag.

    Raises:
      ConfigError: the flag was not given.
    """
    value = flags.FLAGS[flag].value
    if value is None:
        # absl appends a note of its own to the help of flags that may be repeated.
        purpose = flags.FLAGS[flag].help.partition(";\n")[0]
        raise ConfigError(f"--{flag} is missing; {purpose}")
    return value


def file_to_write(path: str | os.PathLike[str]) -> pathlib.Path:
    """Makes the folder of an output file and checks that files can be written there. Errors name
    the flag ``--output``.

    Call it before the slow computation of the output.

    Returns:
      ``path`` as a ``Path``.

    Raises:
      ConfigError: ``path`` is a folder or remote storage, or its folder cannot be written.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give a file's name with --output")
    folder_to_write(path.parent)
    return path


def folder_to_write(path: str | os.PathLike[str], flag: str = "--output") -> pathlib.Path:
    """Makes an output folder and checks that files can be written there; see ``file_to_write``.

    Args:
      path: the folder.
      flag: the flag that names it, or a folder that it is in, for errors.

    Returns:
      ``path`` as a ``Path``.

    Raises:
      ConfigError: ``path`` is remote storage, or cannot be made or written.
    """
    remote.refuse(path, flag)
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ConfigError(
            f"the folder {path} cannot be written ({error.strerror}); name another with {flag}"
        ) from error
    return path


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk between runs. JAX's environment variables take precedence.

    By default JAX keeps only programs that took a second or more to compile; a start compiles
    dozens of smaller ones.
    """
    import jax

    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(home, "fgmm", "jax"))
