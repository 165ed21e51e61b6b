"""Trains a tokenizer on the captions of any source, and shows what one does::

    python -m fgmm.data.tokenizer train --source=flickr8k --option=root=flickr8k.tar \\
        --vocabulary_size=4000 --output=flickr8k.model
    python -m fgmm.data.tokenizer show --model=flickr8k.model --text="A dog on the grass."
"""

import ast
import contextlib
import dataclasses
import itertools
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import tqdm
from absl import flags

from fgmm import command_line, components
from fgmm.config import ConfigError
from fgmm.data.text import phrases as phrases_lib
from fgmm.data.text import tokenizers


def source_captions(source: Any) -> Iterator[str]:
    """The captions of a source, clip by clip, with a progress bar."""
    found = 0
    with tqdm.tqdm(range(len(source)), unit=" clips", mininterval=0.5) as progress:
        for index in progress:
            for caption in source[index].captions:
                found += 1
                yield caption.text
            progress.set_postfix(captions=found, refresh=False)


def _options(entries: Sequence[str], source: Any) -> dict[str, Any]:
    """Parses ``key=value`` options of a source. A Python literal is evaluated, except for an option
    of type str, such as a folder whose name is a number.
    """
    text = {field.name for field in dataclasses.fields(source) if field.type in (str, "str")}
    options = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise ConfigError(f"--option={entry} is not of the form key=value")
        options[key] = value
        if key in text:
            continue
        with contextlib.suppress(ValueError, SyntaxError):
            options[key] = ast.literal_eval(value)
    return options


def _train_command(args: flags.FlagValues) -> None:
    command_line.file_to_write(args.output)
    found = components.find("data.sources", args.source, key="--source")
    entry = {**_options(args.option, found), "name": args.source}
    source = components.build("data.sources", entry, key="--source")
    tokenizer = tokenizers.train(source_captions(source), args.output, args.vocabulary_size)
    for reason, count in sorted(source.report.items()):
        print(f"left out: {count} x {reason}")
    print(f"{args.output}: {tokenizer.vocabulary_size} pieces", end="")
    fewer = tokenizer.vocabulary_size < args.vocabulary_size
    print(f", all that these captions support of {args.vocabulary_size}" if fewer else "")


def _show_command(args: flags.FlagValues) -> None:
    segmenter = phrases_lib.find(args.segmenter, "--segmenter")
    model = tokenizers.load(tokenizers.path_of(args.model))
    found = model.pieces(args.text, segmenter, phrases=len(args.text) or 1)
    for phrase, tokens in itertools.groupby(found, key=lambda token: token[1]):
        print(f"{phrase:3}  " + "  ".join(f"{piece} {token}" for token, _, piece in tokens))


def _train_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("source", None, "name of a source in fgmm.data.sources", flag_values=values)
    flags.DEFINE_multi_string(
        "option", [], "key=value of the source, such as split=train; repeat", flag_values=values
    )
    flags.DEFINE_integer("vocabulary_size", None, "number of pieces", flag_values=values)
    flags.DEFINE_string("output", None, "model file to write", flag_values=values)
    flags.mark_flags_as_required(["source", "vocabulary_size", "output"], flag_values=values)
    return values


def _show_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string(
        "model", None, "model file, or the name of a shipped model", flag_values=values
    )
    flags.DEFINE_string("text", None, "caption to show", flag_values=values)
    flags.DEFINE_string(
        "segmenter", "function_words", "name in fgmm.data.text.phrases", flag_values=values
    )
    flags.mark_flags_as_required(["model", "text"], flag_values=values)
    return values


_COMMANDS = {"train": (_train_flags, _train_command), "show": (_show_flags, _show_command)}


def main(argv: Sequence[str]) -> int:
    """Runs a command. Returns the exit code: 0; 2 after an error, with one line on stderr; 130
    after Ctrl-C.
    """
    command = argv[1] if len(argv) > 1 else ""
    if command in ("--help", "-h", "help"):
        print(__doc__)
        for name, (make_flags, _) in _COMMANDS.items():
            print(f"{name}:\n{make_flags().get_help()}")
        return 0
    try:
        if command not in _COMMANDS:
            raise ConfigError(f"unknown command {command!r}; allowed: {', '.join(_COMMANDS)}")
        make_flags, run = _COMMANDS[command]
        values = make_flags()
        if {"--help", "-h", "-help"} & set(argv[2:]):
            print(values.get_help())
            return 0
        stray = values(command_line.with_home(argv[1:]))[1:]
        if stray:
            raise ConfigError(f"unexpected argument {stray[0]!r}; options are --name=value")
        run(values)
    except (ConfigError, flags.Error) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
