"""
Escapes untrusted text for a terminal, a log and a page.
"""


def printable(text: str) -> str:
    r"""
    Return the text with an escape for each character that is not printable: C{\x1b} for a
    control character, C{\u202e} for a character that changes the direction of writing,
    C{\udcff} for a byte that is not text. Text that is escaped already does not change.
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
