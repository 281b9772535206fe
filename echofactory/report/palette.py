"""
The colours of plots and pages: those of Okabe and Ito, which people tell apart whatever their
colour vision. Of that palette, each background uses the colours whose contrast with it is at
least 3:1 (WCAG 2.2, success criterion 1.4.11).
"""

PAPER = "#ffffff"
"""The light background."""
DARK_PAPER = "#14191e"
"""The dark background."""
INK = "#1d2730"
"""Text on the light background."""
DIM = "#5b6770"
"""Axes and less important text on the light background."""
GRID = "#d8dee3"
"""Grid lines on the light background."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
"""Lines on the light background, in the order in which series take them."""
DARK_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442")
"""Lines on the dark background, in the same order."""

FAILURE = 1
"""The place in the palette of the colour of failures and of limits."""


def contrast(first: str, second: str) -> float:
    """
    Return the contrast of two colours by the formula of WCAG 2.2, from 1 to 21.

    @param first: a colour, as C{#rrggbb}; the order of the two is without effect.
    @param second: the other colour.
    """
    darker, lighter = sorted((_luminance(first), _luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
