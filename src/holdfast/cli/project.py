"""The files of a new project: their texts, and writing them without ever replacing one.

The configuration file is made from the table of settings, every line commented out: a file that changes
nothing, and the reference at hand. It names no URL, so that DATABASE_URL may still decide.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from holdfast.config.convert import show
from holdfast.config.schema import SETTINGS, Setting
from holdfast.errors import InvalidArgument

ENV_EXAMPLE = """\
# Copy to .env and remove the # of what you set; every holdfast command in this folder reads it.
# .env stays out of version control.
#HOLDFAST_URL=postgresql://holdfast:password@localhost:5432/holdfast
#HOLDFAST_DATABASE_PASSWORD_FILE=/run/secrets/holdfast
#HOLDFAST_PROFILE=dev
#HOLDFAST_LOG_LEVEL=info
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

Action = Literal["create", "append", "keep"]
_COMMENTS_AT = 44


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done with one file: `create` it, `append` `text` to it, or `keep` it as it is."""

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
    return [*steps, _ignore(folder)]


def carry_out(steps: list[Step], folder: Path) -> None:
    """Do what `plan` said. A file that has appeared since is kept."""
    for step in steps:
        try:
            if step.action != "keep":
                with open(
                    folder / step.file, "x" if step.action == "create" else "a", encoding="utf-8"
                ) as file:
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


def config_file() -> str:
    """The text of `holdfast.yaml`: every setting with its default, commented out."""
    lines = [
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
