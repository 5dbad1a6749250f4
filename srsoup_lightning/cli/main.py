"""Entry point of the command line: runs a command and turns errors into one line and an exit code."""

from __future__ import annotations

import locale
import os
import re
import signal
import sys
import threading
from argparse import ArgumentError
from collections.abc import Sequence
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path

from rich.console import Console

from srsoup_lightning.cli.commands import COMMANDS, overview
from srsoup_lightning.terminal import printable
from srsoup_lightning.version import __version__

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
DEBUG = "SRSOUP_DEBUG"  # environment variable: show the traceback of an error


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    ``--version`` and ``--help`` import no heavy library.

    Args:
        args: Arguments. None takes those of the process.

    Returns:
        The exit code: 0 done, 1 failed while running, 2 misused, 3 ended by a limit or a budget, 130 interrupted,
        143 terminated.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if arguments == ["--version"]:
        sys.stdout.write(f"srsoup {__version__}\n")
        return 0
    if arguments in ([], ["-h"], ["--help"]):
        sys.stdout.write(overview())
        return 0
    try:
        _run(arguments)
    except ArgumentError as error:
        return _fail(str(error), 2)
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
    if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning exits with code 1 after Ctrl-C
        return _stopped(128 + signal.SIGINT)
    if not stop.code and any(SHOWS.match(argument) for argument in arguments):
        return 0
    code = stop.code if isinstance(stop.code, int) and stop.code else 1
    return _fail(f"the command ended early, by sys.exit({stop.code}) in a class or a module that it uses", code)


def _run(arguments: list[str]) -> None:
    """Run a command. Heavy libraries are imported here, when the command is known.

    Raises:
        ArgumentError: There is no such command, or it has no such option.
    """
    name = arguments[0]
    if name.startswith("-"):  # options may stand before the command
        name = next((argument for argument in arguments if argument in COMMANDS), name)
    if name not in COMMANDS:
        raise ArgumentError(None, f"no command {name!r}: choose one of {', '.join(COMMANDS)}")
    from srsoup_lightning.cli.renamed import refuse_renamed

    refuse_renamed(name, arguments)
    command = COMMANDS[name]
    if command.function:
        from srsoup_lightning.cli.function_command import run_function

        arguments.remove(name)
        run_function(name, command.function, arguments)
    else:
        from srsoup_lightning.cli.trainer_command import run_trainer

        run_trainer(name, command.trainer, arguments)


def _failed(error: Exception) -> int:
    """Report an error with its notes. The type of an unexpected one helps to find its cause."""
    from srsoup_lightning.costs.limits import LimitError
    from srsoup_lightning.oracle.policy import NoGradientError, RewardError

    if isinstance(error, LimitError):
        return _fail(str(error), REACHED)
    if os.environ.get(DEBUG):
        raise error
    notes = "".join(f", {note}" for note in getattr(error, "__notes__", ()))
    # The message of these is enough.
    expected = isinstance(error, (ValueError, OSError, ModuleNotFoundError, NoGradientError, RewardError))
    hint = "" if expected else f" ({type(error).__name__}; {DEBUG}=1 shows where)"
    return _fail(f"{error}{notes}{hint}", 1)


def _stopped(code: int) -> int:
    return _fail(f"{STOPPED[code]}: what was finished is kept, and the same command goes on from there", code)


def _fail(message: str, code: int) -> int:
    """Show an error in one line, also where the message of another library has line breaks or control characters."""
    line = " ".join(part.strip() for part in OPTIONAL.sub(r"\1", message).splitlines() if part.strip())
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"srsoup: error: {printable(line)}", markup=False)
    return code
