"""
Untrusted text, as a terminal, a log and a page may show it.
"""


def printable(text: str) -> str:
    r"""
    Return the text with an escape in place of each character that is not printable:
    C{\x1b} for a control character, C{\u202e} for one that turns the direction of
    writing, C{\udcff} for a byte that is no text. A text that was escaped stays as it is.
    """
    if text.isprintable():
        return text
    return text.translate(
        {
            ord(each): each.encode("unicode_escape").decode("ascii")
            for each in set(text)
            if not each.isprintable()
        }
    )
