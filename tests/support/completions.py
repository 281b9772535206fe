"""
The completions of the command C{echofactory} for bash, zsh and fish, from the declarations of
the options.
"""

import shlex

from shell_programs import NOTE, SHELL_PROGRAMS, ShellProgram, description, words

from echofactory.cli.options import Flag, Option

_NAMES = [program.subcommand.name for program in SHELL_PROGRAMS]

_BASH = """\
# Completion of echofactory for bash 4 or newer.
# {note}

_echofactory()
{{
    local command=client current=${{COMP_WORDS[COMP_CWORD]}} options first
    local previous=${{COMP_WORDS[COMP_CWORD - 1]}}
    COMPREPLY=()
    if ((COMP_CWORD > 1)); then
        case ${{COMP_WORDS[1]}} in
            {names}) command=${{COMP_WORDS[1]}} ;;
        esac
    fi
    # Bash takes --option=value for three words.
    if [[ $current == "=" ]]; then
        current=
    elif [[ $previous == "=" ]]; then
        previous=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    case $command:$previous in
{values}
    esac
    case $command in
{options}
    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    elif [[ $first == files ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        compopt -o filenames 2>/dev/null
    else
        mapfile -t COMPREPLY < <(compgen -A hostname -- "$current")
        if ((COMP_CWORD == 1)); then
            mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY \\
                < <(compgen -W "{spaced}" -- "$current")
        fi
    fi
}}

complete -F _echofactory echofactory
"""

_FILES_OF_BASH = """\
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            compopt -o filenames 2>/dev/null"""


def bash() -> str:
    """Return the completion for bash."""
    values, options = [], []
    for program in SHELL_PROGRAMS:
        name = program.subcommand.name
        for option in program.valued():
            if option.isFile:
                lines = [_FILES_OF_BASH]
            elif option.choices:
                chosen = " ".join(option.choices)
                lines = [
                    f'            mapfile -t COMPREPLY < <(compgen -W "{chosen}" -- "$current")'
                ]
            else:
                lines = []
            pattern = " | ".join(f"{name}:{word}" for word in words(option))
            values += [f"        {pattern})", *lines, "            return", "            ;;"]
        every = " ".join(word for option in program.listed() for word in words(option))
        first = "files" if program.takesFiles else "host"
        options += [
            f"        {name})",
            f"            options={shlex.quote(every)}",
            f"            first={first}",
            "            ;;",
        ]
    return _BASH.format(
        note=NOTE,
        names=" | ".join(_NAMES),
        spaced=" ".join(_NAMES),
        values="\n".join(values),
        options="\n".join(options),
    )


_ZSH = """\
#compdef echofactory
# Completion of echofactory for zsh.
# {note}

_echofactory() {{
    local -a commands
    local command
    if (( CURRENT > 2 )); then
        case $words[2] in
            ({names})
                command=$words[2]
                shift words
                (( CURRENT-- ))
                _echofactory_$command
                return
                ;;
        esac
    fi
    if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then
        commands=(
{commands}
        )
        _describe -t commands command commands
    fi
    _echofactory_client
}}

{functions}
_echofactory "$@"
"""


def _quoted(text: str) -> str:
    """Return a word of zsh, or of fish, in single quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _ofZsh(text: str) -> str:
    """Return a word of zsh in single quotes."""
    return "'" + text.replace("'", "'\\''") + "'"


def _escaped(text: str, characters: str) -> str:
    for character in "\\" + characters:
        text = text.replace(character, f"\\{character}")
    return text


def _zshOption(option: Option | Flag) -> str:
    """Return the specification of an option for C{_arguments}."""
    told = f"[{_escaped(description(option), '[]:')}]"
    names = words(option)
    if isinstance(option, Flag):
        alone = "(- *)" if option.name in ("help", "version") else f"({' '.join(names)})"
        value, ends = "", dict.fromkeys(names, "")
    else:
        alone = "*" if option.repeated else f"({' '.join(names)})"
        action = " "
        if option.isFile:
            action = "_files"
        elif option.choices:
            action = f"({' '.join(option.choices)})"
        value = f":{_escaped(option.metavar, ':')}:{action}"
        ends = {name: "=" if name.startswith("--") else "+" for name in names}
    if len(names) == 1:
        return _ofZsh(f"{alone}{names[0]}{ends[names[0]]}{told}{value}")
    forms = ",".join(f"{name}{ends[name]}" for name in names)
    return f"{_ofZsh(alone)}{{{forms}}}{_ofZsh(told + value)}"


def _zshFunction(program: ShellProgram) -> str:
    """Return the function that completes the words of a subcommand."""
    arguments = ["'*:FILE:_files'"] if program.takesFiles else ["'1:HOST:_hosts'", "'2:PORT: '"]
    if "CONNECTIONS" in program.subcommand.arguments:
        arguments.append("'3:CONNECTIONS: '")
    lines = [*map(_zshOption, program.listed()), *arguments]
    specified = " \\\n".join(f"        {line}" for line in lines)
    name = f"_echofactory_{program.subcommand.name}"
    return f"{name}() {{\n    _arguments -s -S : \\\n{specified}\n}}\n"


def zsh() -> str:
    """Return the completion for zsh."""
    commands = [
        "            " + _ofZsh(f"{each.subcommand.name}:{each.subcommand.summary.rstrip('.')}")
        for each in SHELL_PROGRAMS
    ]
    return _ZSH.format(
        note=NOTE,
        names="|".join(_NAMES),
        commands="\n".join(commands),
        functions="\n".join(map(_zshFunction, SHELL_PROGRAMS)),
    )


_FISH = """\
# Completion of echofactory for fish.
# {note}

function __echofactory_command
    set -l words (commandline -opc)
    if set -q words[2]; and contains -- $words[2] {names}
        echo $words[2]
    else
        echo client
    end
end

function __echofactory_is
    test (__echofactory_command) = $argv[1]
end

complete -c echofactory -f
{lines}
"""


def _fishOption(program: ShellProgram, option: Option | Flag) -> str:
    """Return the line that declares an option."""
    line = f"complete -c echofactory -n '__echofactory_is {program.subcommand.name}'"
    if option.short:
        line += f" -s {option.short}"
    line += f" -l {option.name}"
    if isinstance(option, Option):
        line += " -r -F" if option.isFile else " -x"
        if option.choices:
            line += f" -a {_quoted(' '.join(option.choices))}"
    return f"{line} -d {_quoted(description(option))}"


def fish() -> str:
    """Return the completion for fish."""
    lines = []
    for program in SHELL_PROGRAMS:
        name, summary = program.subcommand.name, program.subcommand.summary.rstrip(".")
        lines += [
            "complete -c echofactory -n 'test (count (commandline -opc)) -eq 1'"
            f" -a {name} -d {_quoted(summary)}"
        ]
    for program in SHELL_PROGRAMS:
        name = program.subcommand.name
        argument = "-F" if program.takesFiles else "-a '(__fish_print_hostnames)'"
        lines.append(f"complete -c echofactory -n '__echofactory_is {name}' {argument}")
        lines += [_fishOption(program, option) for option in program.listed()]
    return _FISH.format(note=NOTE, names=" ".join(_NAMES), lines="\n".join(lines))
