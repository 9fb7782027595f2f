"""The `jointformer` command: a table of subcommands, each imported only when it runs."""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence

from jointformer.errors import UserError

#: name: one line of help. The module is cli/<name>.py with `add_arguments(parser)` and `run(args) -> exit code`.
COMMANDS = {
    "track": "label a video or a folder of pictures, given masks of its objects",
    "evaluate": "run a benchmark and write its results",
    "score": "score predictions as a benchmark's toolkit does",
    "reproduce": "evaluate and score rows of the published tables, ours beside published",
    "submit": "check and pack a submission archive",
    "data": "convert and prepare benchmark data",
    "weights": "list, download, convert and inspect weights",
    "info": "show a model's size, cost and memory for given settings",
    "speed": "measure the parts of a step against the machine's limit",
    "train": "train a stage, or on one's own videos",
    "export": "turn masks into the formats other tools read",
    "ui": "open the web tool",
    "demo": "track the bundled clip with the embedded weights",
}

#: Paths that nothing can be done with; looking whether something is there is enough to be told so.
_BAD_PATHS = {
    errno.ENAMETOOLONG: ("the name is too long for this file system", "choose a shorter name"),
    errno.EACCES: ("no permission", "change its permissions or those of the folders above it"),
    errno.ELOOP: ("the links lead in a circle", "mend them"),
}

#: Commands over many videos: Ctrl-C is caught from their first moment to their last, and they say how to go on.
LONG_RUNS = ("track", "evaluate", "reproduce")

Run = Callable[[argparse.Namespace], int]


def build_parser(command: str) -> tuple[argparse.ArgumentParser, Run]:
    """Return a subcommand's parser and its function."""
    module = importlib.import_module(f"{__package__}.{command}")
    parser = argparse.ArgumentParser(
        prog=f"jointformer {command}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    return parser, module.run


def run_safely(run: Run, args: argparse.Namespace, prog: str) -> int:
    """Return the exit code of `run`; a user's mistake becomes one line and 2, an interruption 130."""
    from jointformer.system.stop import at_once

    try:
        with at_once():
            return run(args)
    except UserError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"{prog}: {str(error) or 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; nothing more can be said there, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in _BAD_PATHS or not isinstance(error.filename, str):
            raise
        what, hint = _BAD_PATHS[error.errno]
        print(f"{prog}: {UserError(what, where=error.filename, hint=hint)}", file=sys.stderr)
        return 2


def print_all_letters() -> None:
    """Let standard output show letters that its encoding lacks as escapes, as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


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
    print_all_letters()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from jointformer import __version__

        print(f"jointformer {__version__}")
        return 0
    command = arguments[0]
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
    return run_safely(run, parser.parse_args(arguments), parser.prog)


if __name__ == "__main__":
    sys.exit(main())
