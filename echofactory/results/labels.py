"""
The title and the labels of a run: what the user says about it. Their sizes are bounded.
"""

from collections.abc import Iterable, Mapping, Sequence

MAX_LABELS = 20
"""Maximum number of labels of a run."""
MAX_KEY_LENGTH = 64
"""Maximum length of a label's key in characters. What does not print counts as its escape."""
MAX_TEXT_LENGTH = 256
"""Maximum length of a title or of a label's value in characters, as above."""


def labelsText(labels: Mapping[str, str]) -> str:
    """Return labels as text, such as C{host=a, build=7}."""
    return ", ".join(f"{key}={value}" for key, value in labels.items())


def together(texts: Iterable[str]) -> str:
    """
    Return the different texts of several runs as one, cut to L{MAX_TEXT_LENGTH}. Empty texts
    are left out.
    """
    whole = ", ".join(dict.fromkeys(text for text in texts if text))
    return whole if len(whole) <= MAX_TEXT_LENGTH else whole[: MAX_TEXT_LENGTH - 1] + "…"


def labelsTogether(runs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """
    Return the labels of several runs as those of one. If the values of a key differ, the value
    has all of them. Of more than L{MAX_LABELS} keys, the first ones are kept.
    """
    keys = list(dict.fromkeys(key for labels in runs for key in labels))[:MAX_LABELS]
    return {key: together(labels.get(key, "") for labels in runs) for key in keys}


def differingLabels(runs: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return, of each run, the labels that not all runs have with the same value."""
    same = set.intersection(*(set(labels.items()) for labels in runs))
    return [
        {key: value for key, value in labels.items() if (key, value) not in same}
        for labels in runs
    ]
