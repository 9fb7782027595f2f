"""The `jointformer` command: a table of subcommands, each imported only when it runs."""

from __future__ import annotations

import argparse
import errno
import importlib
import re
import sys
from collections.abc import Callable, Sequence

from jointformer.cli.flags import CommandParser
from jointformer.cli.standard import end_output, prepare_standard
from jointformer.errors import ConfigError, UserError

#: name: one line of help. The module is cli/<name>.py with `add_arguments(parser)` and `run(args) -> exit code`.
COMMANDS = {
    "track": "track objects through videos, given masks of them",
    "evaluate": "run a benchmark and write its masks",
    "score": "score predictions as a benchmark's toolkit does",
    "compare": "compare scores of several results",
    "reproduce": "run rows of the published tables and compare with the published figures",
    "submit": "check and pack a submission archive",
    "data": "convert annotations and benchmark data",
    "weights": "list, download, convert, average, export and inspect weights",
    "info": "compute a model's size, cost per step and memory",
    "speed": "measure the time of a step and its parts on this machine",
    "train": "train on the published data sets, stills or your own videos",
    "export": "convert masks to the formats of other tools",
    "ui": "open the web tool",
    "demo": "track the bundled clip with the embedded weights",
}

#: Paths that nothing can be done with; looking whether something is there is enough to be told so.
_BAD_PATHS = {
    errno.ENAMETOOLONG: ("the name is too long for this file system", "choose a shorter name"),
    errno.EACCES: ("no permission", "change its permissions or those of the folders above it"),
    errno.ELOOP: ("the links lead in a circle", "mend them"),
}

#: The exit code where the reader of what was printed has gone, as shells give it for SIGPIPE.
_NO_READER = 141

#: Commands over many videos: Ctrl-C is caught from their first moment to their last, and they say how to go on.
LONG_RUNS = ("track", "evaluate", "reproduce")

Run = Callable[[argparse.Namespace], int]


def build_parser(command: str) -> tuple[argparse.ArgumentParser, Run]:
    """Return a subcommand's parser and its function."""
    module = importlib.import_module(f"{__package__}.{command}")
    parser = CommandParser(
        prog=f"jointformer {command}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    return parser, module.run


def run_safely(run: Run, parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Return the exit code of a command line; a user's mistake becomes one line and 2, an interruption 130."""

    def work() -> int:
        _refuse_empty(arguments, parser.prog)
        return run(parser.parse_args(arguments))

    return _safely(work, parser.prog)


def _safely(work: Callable[[], int], prog: str) -> int:
    """Return the exit code of work that may print, with all that it printed written or said not to be."""
    from jointformer.system.files import output_error

    try:
        code = _exit_code(work, prog)
    except (OSError, SystemExit):  # printing may have failed, or argparse is through
        unwritten, code = end_output(), 0
        if unwritten is None:
            raise
    else:
        unwritten = end_output()
    if unwritten is None or code:
        return code
    if isinstance(unwritten, BrokenPipeError):  # head, for instance, has seen enough
        return _NO_READER
    print(f"{prog}: {output_error(unwritten, 'standard output')}", file=sys.stderr)
    return 2


def _exit_code(work: Callable[[], int], prog: str) -> int:
    """Return the exit code of work, with what ended it said in one line."""
    from jointformer.system.stop import at_once

    try:
        with at_once():
            return work()
    except UserError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"{prog}: {str(error) or 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return _NO_READER
    except OSError as error:
        if error.errno not in _BAD_PATHS or not isinstance(error.filename, str):
            raise
        what, hint = _BAD_PATHS[error.errno]
        print(f"{prog}: {UserError(what, where=error.filename, hint=hint)}", file=sys.stderr)
        return 2


def _refuse_empty(arguments: Sequence[str], prog: str) -> None:
    """Raise ConfigError for an empty argument: as a path it would mean the current folder."""
    before = prog
    for argument in arguments:
        if not argument or re.fullmatch("--[a-zA-Z0-9_-]+=", argument):
            what = f"{argument[:-1]} is empty" if argument else f"the argument behind {before[:80]} is empty"
            raise ConfigError(what, hint="is a variable of your shell unset?")
        before = argument


def usage() -> str:
    """Return the text of `jointformer --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: jointformer [--help] [--version] COMMAND ...",
            "",
            "Semi-supervised video object segmentation: masks on one frame in, masks on every frame out.",
            "",
            *lines,
            "",
            "`jointformer COMMAND --help` shows a command's options.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code of one command line."""
    prepare_standard()
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else ""
    if command in ("", "-h", "--help", "help", "--version"):
        return _safely(lambda: _introduce(command), "jointformer")
    if command not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "see jointformer --help"
        print(f"jointformer: no command {command!r}; {hint}", file=sys.stderr)
        return 2
    if command in LONG_RUNS:
        from jointformer.system.stop import catch_signals

        with catch_signals(last=argv is None):
            return _run_command(command, arguments[1:])
    return _run_command(command, arguments[1:])


def _run_command(command: str, arguments: list[str]) -> int:
    parser, run = build_parser(command)
    return run_safely(run, parser, arguments)


def _introduce(word: str) -> int:
    """Print what the command is; returns 2 where nothing was asked for."""
    if word == "--version":
        from jointformer import __version__

        print(f"jointformer {__version__}")
    else:
        print(usage())
    return 0 if word else 2


if __name__ == "__main__":
    sys.exit(main())
