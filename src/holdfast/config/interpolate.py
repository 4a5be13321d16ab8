"""`${VAR}`, `${VAR:-default}`, `${file:path}` and `$$` in the values of a configuration file.

It is done after the file is parsed, so that a value can not change the structure of the file, and once:
what a variable holds is not looked through again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from holdfast.errors import InvalidArgument

_PART = re.compile(
    r"\$(?:(?P<dollar>\$)|\{file:(?P<file>[^{}]+)\}|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\}|)",
    re.ASCII,
)


def interpolate(text: str, lookup: Mapping[str, str], folder: Path) -> str:
    """`text` with its variables from `lookup` and its files from `folder` filled in.

    A default stands in for a variable that is missing or empty. One newline at the end of a file is
    dropped. `InvalidArgument` when a variable without a default is missing, or a `$` begins nothing.
    """

    def fill(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["file"]:
            return _file(match["file"], folder)
        if name := match["name"]:
            if match["default"] is not None:
                return lookup.get(name) or match["default"]
            if name in lookup:
                return lookup[name]
            raise InvalidArgument(
                f"the variable {name} is not set", fix=f"set {name}, or give a default: ${{{name}:-…}}"
            )
        raise InvalidArgument("a single $ begins nothing", fix="write $$ for a dollar sign, or ${NAME}")

    return _PART.sub(fill, text)


def _file(path: str, folder: Path) -> str:
    try:
        return (folder / Path(path).expanduser()).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(
            f"the file {path} cannot be read", fix="check the path and its permissions"
        ) from error
