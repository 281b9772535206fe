"""
The completions and the manual pages in share/, from the declarations of the options:

    python tests/support/shell_files.py
"""

from pathlib import Path

from completions import bash, fish, zsh
from man_pages import manPages

SHARE = Path(__file__).parents[2] / "share"


def shellFiles() -> dict[str, str]:
    """Return the text of each file, by its path below share/."""
    return {
        "bash-completion/completions/echofactory": bash(),
        "zsh/site-functions/_echofactory": zsh(),
        "fish/vendor_completions.d/echofactory.fish": fish(),
        **{f"man/man1/{name}": text for name, text in manPages().items()},
    }


if __name__ == "__main__":
    for name, text in shellFiles().items():
        path = SHARE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
