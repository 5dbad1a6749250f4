"""Entry point of the command line: runs a command and turns errors into one line and an exit code."""

from __future__ import annotations

import locale
import logging
import os
import re
import signal
import sys
import threading
import traceback
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path

from srsoup_lightning.cli.commands import COMMANDS
from srsoup_lightning.cli.help import command_parser, main_parser
from srsoup_lightning.cli.suggestions import explained, suggested
from srsoup_lightning.terminal import messages, say
from srsoup_lightning.version import __version__

logger = logging.getLogger(__name__)
REACHED = 3  # exit code
LINGER = 5.0  # seconds that a process waits for its threads, at most, when its command is done
SHOWS = re.compile(r"-h$|--(\S+\.)?help\b|--print_")  # options that show something in place of a run
STOPPED = {128 + signal.SIGINT: "interrupted", 128 + signal.SIGTERM: "terminated"}  # by exit code
# jsonargparse's message about an option that may also be null: the error in its value, and all of the value
OPTIONAL = re.compile(
    r"Does not validate against any of the Union subtypes.*?Errors:\s*- ((?!Expected a).*?)\s*"
    r"- Expected a <class 'NoneType'>.*",
    re.DOTALL,
)
LEVELS = {  # lowest level of messages, by option
    "-q": logging.WARNING,
    "--quiet": logging.WARNING,
    "-v": logging.DEBUG,
    "--verbose": logging.DEBUG,
}
HELP = ("-h", "--help")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    ``--version`` and ``--help`` import no heavy library.

    Args:
        args: Arguments. None takes those of the process.

    Returns:
        The exit code: 0 done, 1 failed while running, 2 misused, 3 ended by a limit or a budget, 130 interrupted,
        143 terminated.
    """
    given = list(sys.argv[1:] if args is None else args)
    arguments = [argument for argument in given if argument not in LEVELS]
    level = next((LEVELS[argument] for argument in given if argument in LEVELS), logging.INFO)
    if os.environ.get("LOCAL_RANK", "0") != "0":  # the first process of a machine speaks for those that it has started
        level = max(level, logging.WARNING)
    with messages(level):
        try:
            _run(arguments)
        except ArgumentError as error:
            return _refused(error)
        except KeyboardInterrupt:
            return _stopped(128 + signal.SIGINT)
        except SystemExit as stop:
            return _exited(stop, arguments)
        except Exception as error:
            return _failed(error)
    return 0


def console() -> None:
    """Run the command line of this process, and end the process, whatever its threads do then."""
    _in_utf8()
    _find_own_code(sys.argv[1:])
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    late = threading.Timer(LINGER, os._exit, [code])
    late.daemon = True
    late.start()
    sys.exit(code)


def _in_utf8() -> None:
    """Start Python again in its UTF-8 mode where the locale has another encoding: libraries open configs in that one.

    Output keeps the encoding of the terminal. A letter that it lacks is replaced.
    """
    encoding = sys.stdout.encoding
    if os.name == "posix" and locale.getpreferredencoding(False).lower().replace("-", "") != "utf8":
        os.environ |= {"PYTHONUTF8": "1", "PYTHONIOENCODING": f"{encoding}:replace"}
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _find_own_code(arguments: Sequence[str]) -> None:
    """Let import paths name the modules of the current folder, and those beside the configs.

    These folders come last, so that no file in them takes the place of an installed package.
    """
    given = [value for option, value in pairwise(arguments) if option == "--config"]
    given += [argument.removeprefix("--config=") for argument in arguments if argument.startswith("--config=")]
    folders = [Path.cwd(), *(Path(config).resolve().parent for config in given if Path(config).is_file())]
    sys.path += [str(folder) for folder in dict.fromkeys(folders) if str(folder) not in sys.path]


def _exited(stop: SystemExit, arguments: list[str]) -> int:
    """Return the exit code after a call of ``sys.exit``, wherever it was made."""
    if stop.code in STOPPED:
        return _stopped(stop.code)
    if any(isinstance(error, KeyboardInterrupt) for error in _chain(stop)):  # Lightning exits with code 1 after Ctrl-C
        return _stopped(128 + signal.SIGINT)
    if not stop.code and any(SHOWS.match(argument) for argument in arguments):
        return 0
    code = stop.code if isinstance(stop.code, int) and stop.code else 1
    return _fail(f"the command ended early, by sys.exit({stop.code}) in a class or a module that it uses", code)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and the ones that were being handled when it was raised."""
    while error is not None:
        yield error
        error = error.__context__


def _run(arguments: list[str]) -> None:
    """Run a command, or show help. Heavy libraries are imported here, when the command is known.

    Raises:
        ArgumentError: There is no such command, or it has no such option.
    """
    name = arguments[0] if arguments else "--help"
    if name == "--version":
        sys.stdout.write(f"srsoup {__version__}\n")
        return
    if name == "--completion":
        from srsoup_lightning.cli.completion import completion

        sys.stdout.write(completion(*arguments[1:2] or [""]))
        return
    if name.startswith("-"):  # options may stand before the command
        name = next((argument for argument in arguments if argument in COMMANDS), name)
    if name in HELP:
        sys.stdout.write(main_parser().format_help())
        return
    if name not in COMMANDS:
        raise ArgumentError(None, f"no command {name!r}: {suggested(name, COMMANDS)}")
    if any(argument in HELP for argument in arguments):
        sys.stdout.write(command_parser(name).format_help())
        return
    logger.info("%s: starting, PyTorch and other libraries are loaded first", name)
    _call(name, arguments)


def _call(name: str, arguments: list[str]) -> None:
    """Call a command.

    Raises:
        ArgumentError: An option, its value or a file is wrong. The message has the valid names.
    """
    from srsoup_lightning.cli.function_command import run_function
    from srsoup_lightning.cli.order import refuse_overruled
    from srsoup_lightning.cli.refusal import refusing
    from srsoup_lightning.cli.renamed import refuse_renamed

    command = COMMANDS[name]
    try:
        with refusing():
            refuse_renamed(name, arguments)
            refuse_overruled(name, arguments)
        if command.trainer:
            from srsoup_lightning.cli.trainer_command import run_trainer

            run_trainer(name, command.trainer, arguments)
        else:
            arguments.remove(name)
            run_function(name, command.function, arguments)
    except ArgumentError as error:
        raise ArgumentError(None, explained(name, str(error))) from error


def _refused(error: ArgumentError) -> int:
    _show_where(error)
    return _fail(str(error), 2)


def _failed(error: Exception) -> int:
    """Report an error with its notes. The type of an unexpected one helps to find its cause."""
    from srsoup_lightning.cli.refusal import FoundError, notes_of
    from srsoup_lightning.costs.limits import LimitError
    from srsoup_lightning.oracle.policy import NoGradientError, RewardError

    if isinstance(error, LimitError):
        return _fail(str(error), REACHED)
    _show_where(error)
    notes = "".join(f", {note}" for note in notes_of(error))
    # The message of these is enough.
    expected = isinstance(error, (ValueError, OSError, ModuleNotFoundError, NoGradientError, RewardError, FoundError))
    hint = "" if expected else f" ({type(error).__name__}; -v shows where)"
    return _fail(f"{error}{notes}{hint}", 1)


def _show_where(error: Exception) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)


def _stopped(code: int) -> int:
    return _fail(f"{STOPPED[code]}: what was finished is kept, and the same command goes on from there", code)


def _fail(message: str, code: int) -> int:
    """Show an error in one line, also where the message of another library has line breaks or control characters."""
    line = " ".join(part.strip() for part in OPTIONAL.sub(r"\1", message).splitlines() if part.strip())
    say(f"error: {line}")
    return code
