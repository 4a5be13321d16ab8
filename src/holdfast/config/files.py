"""The configuration file: which one it is, and its tree with lines, from YAML or TOML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from holdfast.config import yaml_lines
from holdfast.config.known import look_up
from holdfast.config.sources import Findings, Notice
from holdfast.config.toml_lines import read_toml
from holdfast.errors import InvalidConfiguration

PYPROJECT = "pyproject.toml"
FILES = (
    "holdfast.yaml",
    "holdfast.yml",
    "holdfast.toml",
    "holdfast.config.yaml",
    "config.yaml",
    PYPROJECT,
)
"""Names that are looked for in the current folder; the first that holds settings is read."""
_SHARED = frozenset({"config.yaml", PYPROJECT})
"""Names that others use too: such a file is read if it holds settings of ours."""
_OURS = frozenset({"storage", "persistence", "event_log", "eventLog", "externalDatabase", "profiles"})
_TABLE = ("tool", "holdfast")


@dataclass(frozen=True, slots=True)
class Found:
    """A configuration file that was read. `base` is its folder, `Path()` for the current one."""

    name: str
    base: Path
    root: yaml_lines.Mapping


def find(named: str | None, chosen_by: Mapping[str, str], cwd: Path, findings: Findings) -> Found | None:
    """The file `named`, or the one of HOLDFAST_CONFIG in `chosen_by`, or the first of `FILES` in `cwd`."""
    if wanted := named or chosen_by.get("HOLDFAST_CONFIG"):
        return _found(wanted, read_root(cwd / wanted, wanted, required=True), cwd)
    found = None
    for name in FILES:
        if not (cwd / name).is_file():
            continue
        if found is not None and name not in _SHARED:
            findings.notices.append(Notice("warning", f"{name} is not read: {found.name} comes first", name))
        if found is not None:
            continue
        root = read_root(cwd / name, name, required=name not in _SHARED)
        if root is not None and (name != "config.yaml" or _is_ours(root)):
            found = _found(name, root, cwd)
        elif name == "config.yaml":
            findings.notices.append(
                Notice("note", f"{name} holds no settings of Holdfast and is not read", name)
            )
    return found


def _found(name: str, root: yaml_lines.Mapping | None, cwd: Path) -> Found:
    folder = Path(name).parent
    return Found(name, Path() if folder == cwd else folder, root or yaml_lines.Mapping({}, 1))


def read_root(path: Path, name: str, *, required: bool) -> yaml_lines.Mapping | None:
    """The settings in the file at `path`; None when a file that is not `required` has none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(
            f"the configuration file {name} cannot be read",
            where=name,
            fix="check --config and HOLDFAST_CONFIG, or write one with `holdfast init`",
        ) from error
    if path.name == PYPROJECT:
        root = read_toml(text, name, table=_TABLE)
    elif path.suffix == ".toml":
        root = read_toml(text, name)
    else:
        root = yaml_lines.read_yaml(text, name)
    if root is None or (isinstance(root, yaml_lines.Scalar) and root.text is None):
        return yaml_lines.Mapping({}, 1) if required else None
    if isinstance(root, yaml_lines.Mapping):
        return root
    if not required:
        return None
    raise InvalidConfiguration("the file is not a mapping of settings", where=f"{name}:{root.line}")


def _is_ours(root: yaml_lines.Mapping) -> bool:
    """Somebody else's config.yaml is no reason to refuse to work beside it."""
    return bool(_OURS & root.items.keys()) or all(
        look_up(path).meaning != "unknown" for path in _paths(root, "")
    )


def _paths(mapping: yaml_lines.Mapping, prefix: str) -> Iterator[str]:
    for key, (_, node) in mapping.items.items():
        if isinstance(node, yaml_lines.Mapping) and node.items:
            yield from _paths(node, f"{prefix}{key}.")
        else:
            yield prefix + key
