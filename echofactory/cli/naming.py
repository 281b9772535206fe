"""
The names of the programs in what they print. A program that the command C{echofactory} started
has the name of that command; any other has the name of its module or of its C{twistd} command.

A text is declared with the latter names, and L{asStarted} translates it.
"""

_COMMANDS = {
    "python -m echofactory.client": "echofactory",
    "python -m echofactory.report": "echofactory report",
    "twistd -n multiecho-client": "echofactory monitor",
    "twistd -n multiecho": "echofactory serve",
}
"""What the user types for each command line. The longer of two that begin alike is first."""

_PROGRAMS = {
    "echofactory.client": "echofactory",
    "echofactory.report": "echofactory report",
    "multiecho-client": "echofactory monitor",
    "multiecho": "echofactory serve",
}
"""What begins an error line."""


class _Started:
    """How this process was started."""

    byConsoleScript = False


def useConsoleNames() -> None:
    """From now on, name the programs as the command C{echofactory} starts them."""
    _Started.byConsoleScript = True


def consoleText(text: str) -> str:
    """Return a text with each command line as the command C{echofactory} has it."""
    for declared, name in _COMMANDS.items():
        text = text.replace(declared, name)
    return text


def consoleProgram(program: str) -> str:
    """Return the name with which the command C{echofactory} starts a program."""
    return _PROGRAMS[program]


def asStarted(text: str) -> str:
    """Return a text with each command line as this process was started."""
    return consoleText(text) if _Started.byConsoleScript else text


def programAsStarted(program: str) -> str:
    """Return the name of a program, as this process was started."""
    return consoleProgram(program) if _Started.byConsoleScript else program
