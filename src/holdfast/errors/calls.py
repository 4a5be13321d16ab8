"""HF1xxx: calls, values, settings and definitions that are wrong."""

from __future__ import annotations

from holdfast.errors.root import Misuse


class InvalidArgument(Misuse):
    """An argument is outside what the operation accepts."""

    code = "HF1002"


class NoApp(Misuse):
    """A workflow was called while its app was not open."""

    code = "HF1001"
    default_fix = "open the app first: `async with app:`"


class InvalidUsage(Misuse):
    """The command line has an unknown command or option, or a value that does not fit."""

    code = "HF1003"


class UnsupportedValue(Misuse):
    """A value cannot be stored faithfully on every backend; `where` is the path of the value."""

    code = "HF1010"
    default_fix = "return or pass a value made of JSON types, or annotate the model type"


class UnsuitableForProcess(Misuse):
    """A step is declared with `cpu=True`, but a new process could not find or run its function."""

    code = "HF1050"
    default_fix = "make it a plain function at the top level of a module"


class NothingToServe(Misuse):
    """An app that a worker was given has no workflow."""

    code = "HF1040"
    default_fix = "decorate an async function with @app.workflow, or name another file; YAML needs no app"


class InvalidConfiguration(Misuse):
    """A setting is unknown, malformed or contradicts another."""

    code = "HF1100"
    default_fix = "run `holdfast config validate`"


class SettingUnavailable(Misuse):
    """A setting is right, but its feature is not part of this version."""

    code = "HF1101"
    default_fix = "choose what this version has; `holdfast config validate` lists what has no effect yet"


class InvalidDefinition(Misuse):
    """A workflow definition has mistakes; `details['problems']` lists them with their lines."""

    code = "HF1200"
    default_fix = "correct the definition and run it again"


class InvalidInput(Misuse):
    """The input of an execution does not fit what its workflow declares."""

    code = "HF1210"
    default_fix = "pass the declared inputs with --input or as arguments"


class MissingExtra(Misuse):
    """A feature needs a package that an extra of Holdfast installs."""

    code = "HF1110"
    default_fix = 'pip install "holdfast[all]"'


class InvalidAnswer(Misuse):
    """The answer to an approval does not fit its form; `details['violations']` names every field."""

    code = "HF1211"
    default_fix = "look at the form: `holdfast approvals show ID`"


class SealedRecord(Misuse):
    """A kind of record that only its own verbs write was to be changed like any other."""

    code = "HF1060"
    default_fix = "use the verbs of that kind: an audit entry is appended, a runbook published"


class NoFilter(Misuse):
    """A command on all executions that fit a filter was given an empty filter."""

    code = "HF1020"
    default_fix = "say which: --where 'status:failed workflow:NAME'; or name ids"
