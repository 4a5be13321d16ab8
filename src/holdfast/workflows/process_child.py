"""The inside of a process that runs the bodies of CPU steps, one at a time, for the process that started it.

A request names a module, its file and a qualified name, and carries the encoded arguments; the answer is the
encoded result or the described error. Nothing else crosses, and nothing is pickled: what a step takes and
returns is data here as everywhere. The socket is read by a thread of its own, so that a process whose starter
is gone ends at once, also in the middle of a long computation.

    request   length (4 bytes), header length (4), header (JSON), arguments (codec)
    answer    length (4 bytes), 0 result or 1 error (1), body (codec)
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import queue
import socket
import struct
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from holdfast.errors import HoldfastError, InvalidDefinition
from holdfast.store import codec
from holdfast.workflows.failures import describe

LENGTH = struct.Struct(">I")
RESULT, ERROR = b"\x00", b"\x01"
_MAIN = "__holdfast_main__"
"""What a script that runs as `__main__` is called here: its `if __name__ == "__main__"` is not entered."""


def pack(header: dict[str, Any], arguments: bytes) -> bytes:
    """One request."""
    head = json.dumps(header).encode()
    return LENGTH.pack(LENGTH.size + len(head) + len(arguments)) + LENGTH.pack(len(head)) + head + arguments


def serve(descriptor: int) -> NoReturn:
    """Run what is asked over the socket `descriptor`, until it closes."""
    connection = socket.socket(fileno=descriptor)
    requests = queue.SimpleQueue[bytes]()
    threading.Thread(target=_listen, args=(connection, requests), daemon=True).start()
    while True:
        body = requests.get()
        (length,) = LENGTH.unpack_from(body)
        header = json.loads(body[LENGTH.size : LENGTH.size + length])
        kind, answer = _answer(header, body[LENGTH.size + length :])
        try:
            connection.sendall(LENGTH.pack(len(kind) + len(answer)) + kind + answer)
        except OSError:
            os._exit(0)  # nobody is there to hear it


def _listen(connection: socket.socket, requests: queue.SimpleQueue[bytes]) -> None:
    with connection.makefile("rb") as stream:
        while len(head := stream.read(LENGTH.size)) == LENGTH.size:
            requests.put(stream.read(LENGTH.unpack(head)[0]))
    os._exit(0)


def _answer(header: dict[str, Any], arguments: bytes) -> tuple[bytes, bytes]:
    try:
        step = _find(header["module"], header["file"], header["name"])
        args, kwargs = step.signature.decode(arguments)
        value = step.fn(*args, **kwargs)
        return RESULT, codec.encode(value, step.signature.result, what=header["step"])
    except BaseException as error:  # SystemExit, too, is the failure of an attempt
        described = describe(error)
        if isinstance(error, HoldfastError):
            described |= {"where": error.where, "fix": error.fix}
        return ERROR, codec.encode(described)


def _find(module: str, file: str | None, name: str) -> Any:
    found: Any = _load(module, file)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not hasattr(found, "fn"):
        raise InvalidDefinition(
            f"{module} has no step {name!r} in a new process", fix="define it at the top level of its module"
        )
    return found


def _load(module: str, file: str | None) -> ModuleType:
    name = _MAIN if module == "__main__" else module
    known = sys.modules.get(name)
    if known is not None:
        return known
    if file is None or (module != "__main__" and _is_at(module, file)):
        return importlib.import_module(module)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InvalidDefinition(f"{file} is not a Python file", where=file)
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[name]
        raise
    return made


def _is_at(module: str, file: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == Path(file)
