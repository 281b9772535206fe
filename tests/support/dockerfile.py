"""
The Dockerfile as the tests read it: instructions in stages.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    """
    An instruction.

    @ivar name: in capitals, such as C{COPY}.
    @ivar options: the words of the form C{--from=build}, without the dashes.
    @ivar text: what follows the options.
    """

    name: str
    options: dict[str, str]
    text: str

    def exec(self) -> list[str]:
        """Return the words of the exec form."""
        words: list[str] = json.loads(self.text.removeprefix("CMD "))
        return words


def stages(path: Path) -> list[list[Instruction]]:
    """Return the instructions of each stage. C{FROM} is the first one of each."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    text = re.sub(r" *\\\n *", " ", "\n".join(lines))
    found = list[list[Instruction]]()
    for line in filter(None, text.splitlines()):
        name, _, rest = line.partition(" ")
        options = dict[str, str]()
        while match := re.match(r"--([a-z-]+)=(\S+) ", rest):
            options[match[1]] = match[2]
            rest = rest[match.end() :].lstrip()
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, options, rest))
    return found
