"""
The image of a container, as far as it can be checked without an engine: what the Dockerfile
copies is there, and the commands that it names run here.
"""

import os
import re
import shlex
import signal
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from dockerfile import Instruction, stages
from documents import ROOT, blocks
from programs import running

from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.main import SUBCOMMANDS
from echofactory.cli.monitor import MonitorOptions
from echofactory.cli.parsers import parseDuration
from echofactory.cli.server import ServerOptions

BUILD, IMAGE = stages(ROOT / "Dockerfile")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def the(name: str) -> Instruction:
    """Return the one instruction of the image with this name."""
    (found,) = (each for each in IMAGE if each.name == name)
    return found


def command(words: list[str]) -> list[str]:
    """Return a command of the image as it runs in this environment."""
    program, subcommand, *rest = words
    assert program in PROJECT["scripts"]
    assert subcommand in [each.name for each in SUBCOMMANDS]
    # The console script is not on everybody's path, and does the same.
    return [sys.executable, "-m", program, subcommand, *rest]


def started() -> list[str]:
    """Return what C{docker run echofactory} starts, on a port that the system chooses."""
    words = command([*the("ENTRYPOINT").exec(), *the("CMD").exec()])
    listen = f"tcp:{the('EXPOSE').text}"
    assert words.count(listen) == 1
    return [word.replace(listen, "tcp:0") for word in words]


def check() -> tuple[Instruction, list[str]]:
    """Return the health check, and its command."""
    instruction = the("HEALTHCHECK")
    return instruction, command(instruction.exec())


def test_what_is_copied_is_there() -> None:
    """In the checkout, and .dockerignore sends it, and nothing else, to the engine."""
    sources = set[str]()
    for each in BUILD:
        if each.name == "COPY":
            *froms, _ = each.text.split()
            sources |= set(froms)
    assert all((ROOT / source).exists() for source in sources)
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert {line[2:] for line in ignore if line.startswith("!/")} == sources


def test_what_the_build_needs_is_copied() -> None:
    """Every file and folder that the wheel is made of."""
    copied = " ".join(each.text for each in BUILD if each.name == "COPY").split()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["shared-data"], PROJECT["readme"], "pyproject.toml"}
    needed |= {name for name in PROJECT["license-files"] if "/" not in name}
    assert needed <= set(copied)


def test_the_image_has_what_the_build_installed() -> None:
    """The second stage takes the environment of the first, and its path begins with it."""
    installed = re.findall(r"-m venv (\S+)", " ".join(each.text for each in BUILD))
    assert the("COPY").options == {"from": BUILD[0].text.rpartition(" AS ")[2]}
    assert the("COPY").text.split() == [installed[0], installed[0]]
    assert the("ENV").text.startswith(f"PATH={installed[0]}/bin:")
    # The scripts of an environment name its Python, which must be the same in both.
    assert BUILD[0].text.partition(" ")[0] == IMAGE[0].text


def test_the_python_of_the_image() -> None:
    """It is one that the metadata lists."""
    version = re.match(r"python:([\d.]+)-", IMAGE[0].text)
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["classifiers"]


def test_labels() -> None:
    """Those of the OCI image specification. What the metadata knows is the same there."""
    labels = dict(word.split("=", 1) for word in shlex.split(the("LABEL").text))
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}title"] == PROJECT["name"]
    assert labels[f"{prefix}licenses"] == PROJECT["license"]
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    assert labels[f"{prefix}source"] == site["extra"]["source"]
    assert (labels[f"{prefix}version"], labels[f"{prefix}revision"]) == (
        "${VERSION}",
        "${REVISION}",
    )
    declared = {each.text.partition("=")[0] for each in IMAGE if each.name == "ARG"}
    assert declared == {"VERSION", "REVISION"}


def test_the_user_is_not_root() -> None:
    """It is a number, so that Kubernetes can check it (runAsNonRoot)."""
    assert int(the("USER").text.partition(":")[0]) > 0


def test_the_health_check_ends_in_time() -> None:
    """It gives up before the engine does, and has one connection and one message."""
    instruction, words = check()
    options = ClientOptions()
    options.parseOptions(words[4:])
    limits = [parseDuration(options[name]) for name in ("connect-timeout", "reply-timeout")]
    assert sum(limits) < parseDuration(instruction.options["timeout"])
    assert words[4:7] == ["127.0.0.1", the("EXPOSE").text, "1"]
    assert words[words.index("--count") + 1] == "1"


def test_the_container_has_limits() -> None:
    """Strangers can reach it, and nobody looks at it."""
    options = ServerOptions()
    options.parseOptions(the("CMD").exec()[1:])
    limits = options.settings.limits
    assert (limits.connections, limits.perHost, limits.idle) == (10_000, None, 600)


def test_the_container_serves(tmp_path: Path) -> None:
    """It echoes on every interface, is healthy until it stops, and leaves no file."""
    words = check()[1]
    with running(started(), cwd=tmp_path) as program:
        port = program.waitFor(r"listening on 0\.0\.0\.0:(\d+)")[1]
        words = [port if word == the("EXPOSE").text else word for word in words]
        with running(words, cwd=tmp_path) as healthy:
            assert healthy.finish() == 0
            assert (healthy.out, healthy.err) == ([], [])
        assert program.end() == -signal.SIGTERM
    with running(words, cwd=tmp_path) as healthy:
        # Docker reserves the other statuses.
        assert healthy.finish() == 1
    assert os.listdir(tmp_path) == []


def arguments(node: Any) -> Iterator[list[str]]:
    """Return each C{command} of a compose file, and each C{args} of Kubernetes."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name in ("command", "args"):
                yield value
            else:
                yield from arguments(value)
    elif isinstance(node, list):
        for value in node:
            yield from arguments(value)


def test_commands_of_the_recipes() -> None:
    """The image's program accepts them."""
    recipes = [
        words
        for block in blocks(ROOT / "docs" / "deploy.md", "yaml")
        for document in yaml.safe_load_all(block.text)
        for words in arguments(document)
    ]
    assert len(recipes) == 5
    programs = {"serve": ServerOptions, "client": ClientOptions, "monitor": MonitorOptions}
    for subcommand, *words in recipes:
        programs[subcommand]().parseOptions(words)
