"""Break lines of the summary where the terminal ends."""

from __future__ import annotations

import textwrap


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Return the lines of a text, all but the first indented by two columns more; no word is broken.

    :param width: of the terminal, in columns.
    :param indent: of the first line.
    """
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
