"""What the programs of this package have in common: flags, errors in one line, exit codes.

Exit codes: 0 done, or stopped with everything saved; 1 the run itself failed; 2 the command or its
config is wrong.
"""

import os
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
from absl import app, flags, logging

from fgmm.config import ConfigError, files

WRONG_COMMAND = 2


def run(main: Callable[[list[str]], None]) -> None:
    """Parses flags and runs ``main``; a wrong command is one line on standard error."""

    def checked(argv: list[str]) -> None:
        if argv[1:]:
            fail(f"unexpected argument {argv[1]!r}; options are --name=value")
        try:
            main(argv)
        except ConfigError as error:
            fail(str(error))
        except KeyboardInterrupt:
            sys.exit("interrupted")

    app.run(checked, flags_parser=_parse)


def fail(message: str) -> None:
    """Ends the program for a wrong command."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(WRONG_COMMAND)


def _parse(argv: list[str]) -> list[str]:
    try:
        argv = _with_paths(argv)
        rest = flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        fail(f"{error}; --help lists the flags")
    # A config file is executed while flags are parsed, so whatever it raises comes through here.
    except Exception as error:
        fail(_explained(error, argv))
    if "config" in flags.FLAGS and not isinstance(
        flags.FLAGS.config, ml_collections.ConfigDict | None
    ):
        fail(f"--config={given('config', argv)} cannot be read: there is no such file")
    # Orbax writes dozens of lines a checkpoint; --verbosity=0 shows them.
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)
    return rest


def _with_paths(argv: list[str]) -> list[str]:
    """The arguments with the path of the config file where its name stands."""
    if "config" not in flags.FLAGS or not (value := given("config", argv)):
        return argv
    path = files.resolved(value)
    spelled = {f"--config={value}": f"--config={path}", value: path}
    return [argv[0], *(spelled.get(argument, argument) for argument in argv[1:])]


def _explained(error: Exception, argv: list[str]) -> str:
    """What a person needs of a failure to parse flags, which may hold a whole traceback."""
    last_line = (str(error) or type(error).__name__).splitlines()[-1]
    if "ConfigError: " in last_line:
        return last_line.rpartition("ConfigError: ")[2]
    for argument in argv[1:]:
        key, _, value = argument.removeprefix("--").partition("=")
        if key.startswith("config.") and (allowed := _allowed_instead(key, argv)):
            return f"{key}={value} is unknown; allowed: {', '.join(allowed)}"
    return f"--config={given('config', argv)}: {last_line}"


def _allowed_instead(key: str, argv: list[str]) -> list[str]:
    """The keys that stand where ``key`` departs from the config; none if it does not."""
    path, _, argument = given("config", argv).partition(":")
    node = runpy.run_path(path)["get_config"](argument or None)
    for part in key.split(".")[1:]:
        if not isinstance(node, ml_collections.ConfigDict):
            return []
        if part not in node:
            return sorted(node)
        node = node[part]
    return []


def given(flag: str, argv: Sequence[str] | None = None) -> str:
    """What stands on the command line for a flag, as it was typed; empty if it is not there."""
    argv = sys.argv if argv is None else argv
    for i, argument in enumerate(argv):
        if argument.startswith(f"--{flag}="):
            return argument.partition("=")[2]
        if argument == f"--{flag}":
            return argv[i + 1] if i + 1 < len(argv) else ""
    return ""


def required(flag: str) -> Any:
    """The value of a flag.

    Raises:
      ConfigError: it was not given.
    """
    value = flags.FLAGS[flag].value
    if value is None:
        raise ConfigError(f"--{flag} is missing; {flags.FLAGS[flag].help}")
    return value


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk between runs, unless the environment says where or not to."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(home, "fgmm", "jax"))
