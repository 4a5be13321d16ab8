"""The files of a new project: their texts, and writing them without ever replacing one.

The configuration file is made from the table of settings, every line commented out: a file that changes
nothing, and the reference at hand. It names no URL, so that DATABASE_URL may still decide.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from holdfast.config.convert import show
from holdfast.config.json_schema import json_schema
from holdfast.config.schema import SETTINGS, Setting
from holdfast.errors import InvalidArgument

ENV_EXAMPLE = """\
# Copy to .env and remove the # of what you set; every holdfast command in this folder reads it.
# .env stays out of version control.

# The store: one URL ...
#HOLDFAST_URL=postgresql://holdfast:password@localhost:5432/holdfast

# ... or its parts (sqlite, postgresql, mysql, file, memory). A bare number of a time is milliseconds.
#HOLDFAST_STORAGE_TYPE=postgresql
#HOLDFAST_DATABASE_HOST=localhost
#HOLDFAST_DATABASE_PORT=5432
#HOLDFAST_DATABASE_NAME=holdfast
#HOLDFAST_DATABASE_USER=holdfast
#HOLDFAST_DATABASE_PASSWORD=password
#HOLDFAST_DATABASE_SSL=auto
#HOLDFAST_DATABASE_POOL_MIN=2
#HOLDFAST_DATABASE_POOL_MAX=20
#HOLDFAST_DATABASE_TIMEOUT=30000
#HOLDFAST_DATABASE_IDLE_TIMEOUT=600000
#HOLDFAST_DATABASE_PATH=.holdfast/holdfast.db

# A secret may stand in a file: NAME_FILE instead of NAME.
#HOLDFAST_DATABASE_PASSWORD_FILE=/run/secrets/holdfast

# Keys as ID:BASE64 of 32 bytes (printf '1:%s' "$(head -c 32 /dev/urandom | base64)").
#HOLDFAST_ENCRYPTION_KEY=
#HOLDFAST_API_KEY_PEPPER=
#HOLDFAST_AUDIT_KEY=

# Any other setting: its path in capitals, with __ for each dot.
#HOLDFAST_EVENT_LOG_TYPE=database
#HOLDFAST_EVENT_LOG_DIR=.holdfast/events
#HOLDFAST_WORKER__CONCURRENCY=10
#HOLDFAST_LOG_LEVEL=info
#HOLDFAST_PROFILE=dev
"""
IGNORED = (".holdfast/", ".env")
"""Lines that `.gitignore` gets: the database, and the secrets."""

HELLO_YAML = """\
# holdfast run hello.yaml --input '{"name": "Ada"}'
# Stop it anywhere (Ctrl-C, or kill -9) and run the same line again: it goes on, and repeats nothing.
name: hello
description: Greets, waits a moment, and counts the letters of the greeting.
inputs:
  type: object
  properties:
    name: {type: string, default: world}
steps:
  - id: greet
    env: {WHO: "${{ inputs.name }}"}
    shell: printf 'Hello, %s!' "$WHO"
  - id: pause
    needs: [greet]
    sleep: 2s
  - id: count
    needs: [pause]
    env: {GREETING: "${{ steps.greet.output }}"}
    shell: printf '%s' "$GREETING" | wc -c
outputs:
  greeting: ${{ steps.greet.output }}
  letters: ${{ steps.count.output }}
"""
HELLO_PY = '''\
"""holdfast run hello.py:report otters"""

import holdfast as hf

app = hf.App()


@app.step(max_attempts=3)
async def research(topic: str) -> str:
    return f"notes on {topic}"


@app.step
async def shorten(notes: str) -> str:
    return notes.title()


@app.workflow
async def report(topic: str) -> str:
    notes = await research(topic)
    await hf.sleep("2s")
    return await shorten(notes)
'''

SCHEMA_FILE = ".holdfast/schema.json"
"""Where the JSON Schema of this version lies, for editors; the first line of the file names it."""

Action = Literal["create", "append", "refresh", "keep"]
_MODES: Mapping[Action, str] = {"create": "x", "append": "a", "refresh": "w"}
_COMMENTS_AT = 44


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done with one file: `create` it, `append` `text` to it, `refresh` or `keep` it."""

    file: str
    action: Action
    text: str


def plan(folder: Path, *, example: bool) -> list[Step]:
    """What a project in `folder` lacks. Reads only."""
    wanted = {"holdfast.yaml": config_file(), ".env.example": ENV_EXAMPLE}
    if example:
        wanted |= {"hello.yaml": HELLO_YAML, "hello.py": HELLO_PY}
    steps = [
        Step(name, "keep" if os.path.lexists(folder / name) else "create", text)
        for name, text in wanted.items()
    ]
    return [*steps, _ignore(folder), _schema(folder)]


def carry_out(steps: list[Step], folder: Path) -> None:
    """Do what `plan` said. A file that has appeared since is kept."""
    for step in steps:
        try:
            if step.action != "keep":
                (folder / step.file).parent.mkdir(exist_ok=True)
                with open(folder / step.file, _MODES[step.action], encoding="utf-8") as file:
                    file.write(step.text)
        except FileExistsError:
            continue
        except OSError as error:
            raise InvalidArgument(
                f"{step.file} cannot be written: {error.strerror}",
                where="init",
                fix="check the permissions of the folder",
            ) from error


def _ignore(folder: Path) -> Step:
    try:
        before = (folder / ".gitignore").read_text(encoding="utf-8")
    except FileNotFoundError:
        return Step(".gitignore", "create", "".join(f"{line}\n" for line in IGNORED))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(".gitignore cannot be read", where="init", fix="check the file") from error
    lines = {line.strip().rstrip("/").removeprefix("/") for line in before.splitlines()}
    missing = [line for line in IGNORED if line.rstrip("/") not in lines]
    if not missing:
        return Step(".gitignore", "keep", "")
    start = "" if before.endswith("\n") or not before else "\n"
    return Step(".gitignore", "append", start + "".join(f"{line}\n" for line in missing))


def _schema(folder: Path) -> Step:
    """The schema is this version's, so that an older one is replaced."""
    text = json.dumps(json_schema(), indent=1) + "\n"
    try:
        before = (folder / SCHEMA_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return Step(SCHEMA_FILE, "create" if not os.path.lexists(folder / SCHEMA_FILE) else "refresh", text)
    return Step(SCHEMA_FILE, "keep" if before == text else "refresh", text)


def config_file() -> str:
    """The text of `holdfast.yaml`: every setting with its default, commented out."""
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        "# Every line with a # in front shows a default: remove the # of what you change.",
        "# `holdfast config show --origins` prints what is in effect, `config validate` checks this file.",
    ]
    _section(lines, {path: setting for path, setting in SETTINGS.items() if path != "storage.url"}, "")
    return "\n".join(lines) + "\n"


def _section(lines: list[str], settings: Mapping[str, Setting], prefix: str) -> None:
    seen: set[str] = set()
    indent = "  " * prefix.count(".")
    for path, setting in settings.items():
        name, dot, _ = path.removeprefix(prefix).partition(".")
        if not path.startswith(prefix) or name in seen:
            continue
        seen.add(name)
        if dot:
            lines += ([""] if not prefix else []) + [f"{indent}{name}:"]
            _section(lines, settings, f"{prefix}{name}.")
        else:
            lines.append(_line(indent, name, setting))


def _line(indent: str, name: str, setting: Setting) -> str:
    shown = show(setting.rule, setting.default)
    if isinstance(shown, bool):
        shown = str(shown).lower()
    elif shown is None:
        shown = ""
    elif setting.rule.kind == "mode":
        shown = f'"{shown}"'
    choices = f" ({', '.join(setting.rule.choices)})" if len(setting.rule.choices) > 1 else ""
    text = f"{indent}# {name}: {shown}".rstrip()
    return f"{text:<{_COMMENTS_AT}}# {setting.rule.doc}{choices}"
