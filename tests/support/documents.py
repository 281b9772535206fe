"""
The documents as the tests read them: blocks, headings, links, and commands that are run.

How a block of commands is written:

  - C{console}: every line that begins with C{$ } is a command, and the lines after it are
    its output. The test runs the commands of a page in order, in one folder, and compares
    the output. A figure with its unit matches any figure. A line C{...} matches any number
    of lines. A command without output lines is run, and its output is not compared. The
    commands are C{echofactory}, C{python}, C{twistd}, C{echo $?}, C{cat}, and C{curl}, which
    may be missing. C{cat} shows a file of C{examples/}.
  - A C{twistd} command, or C{echofactory serve}, goes on in the background until the page
    ends, or until the page starts another server on the same port. The output lines are among
    those of its log, in that order, without the time and the origin before them. The test
    waits for them, and then goes on; lines after a C{...} may come later. The system chooses
    the ports.
  - C{haproxy -f FILE} and C{nginx -p . -c FILE} go on in the background too, with a file of
    C{examples/}. They have to be installed.
  - C{sh}, C{text} or no kind: not run. The programs of this package have to accept the
    options.

A run is shortened, so that a page can show C{--duration 10s}.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from programs import LIMIT, SCRIPTS, Program, environment, running, until

from echofactory.cli.main import SUBCOMMANDS

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])

EXAMPLES = ROOT / "examples"
PROXIES = ("haproxy", "nginx")

# Those of the system's administrator are not on everybody's path.
_SYSTEM_PATH = f"{os.environ['PATH']}:/usr/sbin"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FIGURE = re.compile(
    r"[-+]?\b\d[\d,]*(\.\d+)?(e[-+]?\d+)?"
    r"( ?(ns|us|µs|ms|s|min|h|B|KiB|MiB|GiB|%)(?![A-Za-z]))?(/s)?"
)
_SEARCHED = re.compile(
    r".*(messages?/s keeps? .*;|the client is the limit: |the lowest rate tried, ).*"
)
"""How a search has ended: that depends on the machine."""
_PORT = r"(?<![\d.])(7007|65432|8080|946\d)\b"


@dataclass(frozen=True)
class Block:
    """
    A fenced block.

    @ivar kind: the word after the fence.
    """

    kind: str
    text: str


def blocks(page: Path, *kinds: str) -> list[Block]:
    """Return the blocks of these kinds."""
    found = [Block(*match) for match in _FENCE.findall(page.read_text())]
    return [block for block in found if block.kind in kinds]


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    return _FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Return what C{#...} can name: the headings, as GitHub writes them, and named places."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    written = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
    return written.union(re.findall(r'<a id="([^"]+)">', prose(page)))


def links(page: Path) -> list[tuple[str, str]]:
    """Return the file and the anchor of each link that stays in this tree."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    inside = [target for target in targets if "://" not in target]
    return [(file, anchor) for file, _, anchor in (link.partition("#") for link in inside)]


def steps(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Return each command of a C{console} block, and its output lines."""
    command, output = "", list[str]()
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            if command:
                yield command, output
            command, output = line[2:], []
        else:
            assert command, f"output without a command: {line}"
            output.append(line)
    assert command, "a console block without a command"
    yield command, output


def missing(page: Path) -> list[str]:
    """Return the proxies that a page starts, and that are not installed."""
    commands = [command for block in blocks(page, "console") for command, _ in steps(block)]
    started = {command.partition(" ")[0] for command in commands}
    return [
        name
        for name in PROXIES
        if name in started and shutil.which(name, path=_SYSTEM_PATH) is None
    ]


def ours(line: str) -> tuple[str, list[str]] | None:
    """
    Return which of this package's programs a shell's line starts, and the words after it;
    C{None}: none of them.
    """
    line = line.removeprefix("$ ").removeprefix("# ")
    if "[options]" in line or not re.search(
        r"\bmultiecho|-m echofactory\.|^echofactory ", line
    ):
        return None
    words = shlex.split(line, comments=True)
    if words[0] == "echofactory":
        # The programs have the names that they have elsewhere.
        named = next((each for each in SUBCOMMANDS if each.name == words[1]), None)
        if named is None:
            words[1:1] = ["-m", "echofactory.client"]
        else:
            words[1:2] = [named.twistd] if named.twistd else ["-m", f"echofactory.{named.name}"]
    for index, word in enumerate(words):
        if word in ("&", "|", ">", "&&"):
            break
        after = words[index + 1 :]
        ends = [after.index(end) for end in ("&", "|", ">", "&&") if end in after]
        after = after[: min(ends, default=len(after))]
        if word in ("multiecho", "multiecho-client"):
            return word, after
        if word.startswith("echofactory.") and words[index - 1] == "-m":
            return word, after
    return None


def normal(line: str) -> str:
    """Return a line of output without what differs from run to run."""
    line = re.sub(r"^\d{4}-\d\d-\d\dT\S+ \[[^]]*\] ", "", line)
    # What the kernel saw, and what a slow machine adds.
    line = re.sub(r"^tcp  .*", "tcp", line)
    line = re.sub(r"[\d,]+ due, [\d,]+ unsent, ", "", line)
    line = re.sub(r": (kept|broken)$", ": kept or broken", line)
    line = re.sub(r"\bexpected b.*", "expected", line)
    line = _SEARCHED.sub("the outcome of a search", line)
    line = " ".join(_FIGURE.sub("#", line).split())
    # One sample, or two samples.
    return re.sub(r"(# [a-z]+?)s?\b", r"\1", line)


def isGap(line: str) -> bool:
    """Tell whether a line stands for any number of lines."""
    return line.strip() in ("...", "…")


def withoutWarnings(lines: Sequence[str]) -> list[str]:
    """Return the lines, without the warnings and the advice that a slow machine adds."""
    kept = []
    dropping = False
    for line in lines:
        dropping = bool(re.match(r"(echofactory(\.client)?: )?(warning|advice)\b", line)) or (
            dropping and line.startswith(" " * 15)
        )
        if not dropping:
            kept.append(line)
    return kept


def matches(shown: Sequence[str], said: Sequence[str]) -> bool:
    """Tell whether output is as a page shows it."""
    pattern = "".join(
        r"(?:.*\n)*" if isGap(line) else re.escape(normal(line)) + "\n"
        for line in withoutWarnings(shown)
    )
    output = "".join(f"{normal(line)}\n" for line in withoutWarnings(said))
    return re.fullmatch(pattern, output) is not None


@dataclass
class _Server:
    """
    @ivar now: lines of the log that are waited for at the start.
    @ivar later: lines that may come later.
    """

    program: Program
    now: list[str]
    later: list[str]
    ports: set[str]
    _seen: int = 0

    def check(self, shown: Sequence[str]) -> None:
        """Wait for lines of the log, in this order and after those already seen."""
        for line in shown:
            until(partial(self._foundOrEnded, line))
            found = self._find(line)
            assert found, f"{line!r} is not in {self.program.out[self._seen :]}"
            self._seen = found

    def _foundOrEnded(self, line: str) -> bool:
        return bool(self._find(line)) or self.program.process.poll() is not None

    def _find(self, line: str) -> int:
        """Return the place after a line; 0: it is not there."""
        said = self.program.out[self._seen :]
        found = (at for at, other in enumerate(said, 1) if normal(other) == normal(line))
        place = next(found, 0)
        return place and self._seen + place


@dataclass
class Session:
    """
    Runs the commands of one page.

    @ivar folder: where they run.
    """

    folder: Path
    _status: int = 0
    _servers: list[_Server] = field(default_factory=list)
    _streams: dict[str, str] = field(default_factory=dict)
    _datagrams: dict[str, str] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, command: str, shown: list[str]) -> None:
        """
        Run a command, and compare its output with what the page shows.

        @raise AssertionError: the output differs.
        """
        program = shlex.split(command)[0]
        if program == "twistd" or re.match(r"echofactory (serve|monitor) (?!--help)", command):
            self._start(command, shown)
            return
        if program in PROXIES:
            self._startProxy(command)
            return
        known = ("echofactory", "python", "curl", "echo", "cat")
        assert program in known, f"{program}: not run, so its block is sh"
        if program == "curl" and shutil.which(program) is None:
            return
        placed = command if program == "cat" else self._placed(command)
        text = re.sub(r"--duration \d+s", "--duration 300ms", placed)
        done = subprocess.run(
            f"(exit {self._status})\n{text}",
            shell=True, cwd=self.folder, env=environment(PATH=self._path()), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=LIMIT, check=False,
        )  # fmt: skip
        self._status = done.returncode
        said = done.stdout.splitlines()
        assert not shown or matches(shown, said), "\n".join(
            [f"$ {text}", *said, "instead of", *shown]
        )

    def finish(self) -> None:
        """Check the logs of the servers that are still there."""
        for server in self._servers:
            server.check(server.later)

    def _path(self) -> str:
        return f"{SCRIPTS}:{environment().get('PATH', '')}"

    def _placed(self, command: str) -> str:
        """Return a command with the ports that the servers have."""
        command = re.sub(
            rf"\budp:127\.0\.0\.1:{_PORT}", lambda m: f"udp:127.0.0.1:{self._datagrams[m[1]]}",
            command,
        )  # fmt: skip
        return re.sub(_PORT, lambda m: self._streams.get(m[1], m[1]), command)

    def _start(self, command: str, shown: list[str]) -> None:
        """Start a server, or a monitor, on ports that the system chooses."""
        for endpoint in re.findall(r"--listen \S*?((?:tcp|ssl|tls|reuseport):\S+)", command):
            assert "interface=127.0.0.1" in endpoint, f"{command}: not on loopback"
        statuses = re.findall(rf"--status (?:tcp:)?{_PORT}", command)
        datagrams = re.findall(rf"--udp \S+:{_PORT}", command)
        monitor = "multiecho-client" in command or command.startswith("echofactory monitor")
        text = re.sub(rf"(--status (?:tcp:)?){_PORT}", r"\g<1>0", command)
        text = re.sub(rf"(--udp \S+:){_PORT}", r"\g<1>0", text)
        streams = [] if monitor else re.findall(_PORT, text)
        text = self._placed(text) if monitor else re.sub(_PORT, "0", text)
        self._end({*statuses, *streams})
        words = shlex.split(text)
        later = next((at for at, line in enumerate(shown) if isGap(line)), len(shown))
        server = _Server(
            self._stack.enter_context(
                running(
                    words
                    if words[0] == "echofactory"
                    else ["twistd", "-n", "--pidfile=", *words[words.index("-n") + 1 :]],
                    cwd=self.folder,
                    env=environment(PATH=self._path()),
                )
            ),
            shown[:later],
            [line for line in shown[later:] if not isGap(line)],
            {*statuses, *streams},
        )
        self._servers.append(server)
        for port in statuses:
            self._streams[port] = server.program.waitFor(r"status page on \S+:(\d+)")[1]
        for port in streams:
            at = r"(?:\('[^']*', |\S+:)?(\d+)\b(?!\.)"
            said = rf"^\S+ \[\S+\] (?:listening on|\w+ starting on) {at}"
            self._streams[port] = server.program.waitFor(said)[1]
            if "multiecho" in command or words[0] == "echofactory":
                server.program.waitFor(r"\] listening on ")
        for port in datagrams:
            said = r"listening on udp \S+:(\d+)"
            self._datagrams[port] = server.program.waitFor(said)[1]
        server.check(server.now)

    def _startProxy(self, command: str) -> None:
        """Start a proxy with a file of the examples, on a port that the system chooses."""
        program, *words = shlex.split(command)
        path = self.folder / words[-1]
        text = path.read_text()
        (port,) = re.findall(rf"(?:bind|listen) 127\.0\.0\.1:{_PORT}", text)
        self._end({port})
        # The proxy has this socket from its start, so that nothing has to wait for it.
        listening = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        descriptor = listening.fileno()
        self._streams[port] = str(listening.getsockname()[1])
        text = self._placed(text)
        # nginx finds the socket by its address.
        if program == "haproxy":
            text = re.sub(r"bind \S+", f"bind fd@{descriptor}", text)
        placed = path.with_name(f"placed-{path.name}")
        placed.write_text(text)
        place = shutil.which(program, path=_SYSTEM_PATH) or program
        proxy = self._stack.enter_context(
            running(
                [place, *words[:-1], placed.name],
                cwd=self.folder,
                # A new nginx takes over the sockets of an old one in this way.
                env={**os.environ, "NGINX": f"{descriptor};"},
                pass_fds=[descriptor],
            )
        )
        # nginx ends its worker, which outlives it if it is killed.
        self._stack.callback(proxy.end)
        self._servers.append(_Server(proxy, [], [], {port}))

    def _end(self, ports: set[str]) -> None:
        """End the servers that have these ports."""
        for server in [server for server in self._servers if server.ports & ports]:
            server.check(server.later)
            server.program.end()
            self._servers.remove(server)
