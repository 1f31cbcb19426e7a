"""Names of folders and files after an id, as Hive, Spark and pyarrow take them back."""

from __future__ import annotations

import re

#: ASCII that Spark escapes in a partition's folder, and what a shell, an URL or a listing stumbles over.
#: Other letters stay: Spark takes an escaped byte for a letter of its own, and no longer reads the name.
_ESCAPED = re.compile(r"""[\x00-\x1f\x7f"#%'*+/:<=>?\[\\\]^`{|}]""")

#: A folder or file name has 255 bytes; the rest is for what stands before and after the id.
MOST_BYTES = 200


def escaped(text: str) -> str:
    """The text with each special character as a percent sign and its number in hex."""
    return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", text)


def fits(text: str) -> bool:
    """Whether an id can be part of a stored name: it is text, and not too long."""
    try:
        return 0 < len(escaped(text).encode()) <= MOST_BYTES
    except UnicodeEncodeError:
        return False
