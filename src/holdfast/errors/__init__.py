"""Every expected failure, with a stable code, its cause and its fix.

One root, branches by what the caller can do: retry later, resolve a conflict, look elsewhere, correct
the call, or treat data as damaged. A class is one kind of failure; its `code` never changes once
released, and `exit_code` is what the command line returns for it. The text of an error names the
operation, the ids involved and the remedy, and never a secret: URLs are redacted before they get here.
"""

from __future__ import annotations

from holdfast.errors.calls import (
    InvalidAnswer as InvalidAnswer,
)
from holdfast.errors.calls import (
    InvalidArgument as InvalidArgument,
)
from holdfast.errors.calls import (
    InvalidConfiguration as InvalidConfiguration,
)
from holdfast.errors.calls import (
    InvalidDefinition as InvalidDefinition,
)
from holdfast.errors.calls import (
    InvalidInput as InvalidInput,
)
from holdfast.errors.calls import (
    InvalidUsage as InvalidUsage,
)
from holdfast.errors.calls import (
    MissingExtra as MissingExtra,
)
from holdfast.errors.calls import (
    NoApp as NoApp,
)
from holdfast.errors.calls import (
    NoFilter as NoFilter,
)
from holdfast.errors.calls import (
    NothingToServe as NothingToServe,
)
from holdfast.errors.calls import (
    SealedRecord as SealedRecord,
)
from holdfast.errors.calls import (
    SettingUnavailable as SettingUnavailable,
)
from holdfast.errors.calls import (
    UnsuitableForProcess as UnsuitableForProcess,
)
from holdfast.errors.calls import (
    UnsupportedValue as UnsupportedValue,
)
from holdfast.errors.conflicts import (
    AlreadyDecided as AlreadyDecided,
)
from holdfast.errors.conflicts import (
    ApprovalIdTaken as ApprovalIdTaken,
)
from holdfast.errors.conflicts import (
    CopyUnfinished as CopyUnfinished,
)
from holdfast.errors.conflicts import (
    DefinitionChanged as DefinitionChanged,
)
from holdfast.errors.conflicts import (
    ForbiddenTransition as ForbiddenTransition,
)
from holdfast.errors.conflicts import (
    IdTaken as IdTaken,
)
from holdfast.errors.conflicts import (
    LeaseLost as LeaseLost,
)
from holdfast.errors.conflicts import (
    NoEdition as NoEdition,
)
from holdfast.errors.conflicts import (
    NotResumable as NotResumable,
)
from holdfast.errors.conflicts import (
    OtherQueue as OtherQueue,
)
from holdfast.errors.conflicts import (
    OwnedElsewhere as OwnedElsewhere,
)
from holdfast.errors.conflicts import (
    RecordExists as RecordExists,
)
from holdfast.errors.conflicts import (
    ReplayDiverged as ReplayDiverged,
)
from holdfast.errors.conflicts import (
    SignalUndeliverable as SignalUndeliverable,
)
from holdfast.errors.conflicts import (
    StoreInUse as StoreInUse,
)
from holdfast.errors.conflicts import (
    TargetNotEmpty as TargetNotEmpty,
)
from holdfast.errors.conflicts import (
    TaskTaken as TaskTaken,
)
from holdfast.errors.conflicts import (
    VersionConflict as VersionConflict,
)
from holdfast.errors.conflicts import (
    VersionTaken as VersionTaken,
)
from holdfast.errors.conflicts import (
    WorkerOutOfReach as WorkerOutOfReach,
)
from holdfast.errors.conflicts import (
    WrongStatus as WrongStatus,
)
from holdfast.errors.identity import (
    ApiKeyRefused as ApiKeyRefused,
)
from holdfast.errors.identity import (
    EmailTaken as EmailTaken,
)
from holdfast.errors.identity import (
    KeyMissing as KeyMissing,
)
from holdfast.errors.identity import (
    LoginRefused as LoginRefused,
)
from holdfast.errors.identity import (
    Refused as Refused,
)
from holdfast.errors.identity import (
    SealBroken as SealBroken,
)
from holdfast.errors.identity import (
    SessionRefused as SessionRefused,
)
from holdfast.errors.missing import (
    AppNotFound as AppNotFound,
)
from holdfast.errors.missing import (
    ApprovalNotFound as ApprovalNotFound,
)
from holdfast.errors.missing import (
    ExecutionNotFound as ExecutionNotFound,
)
from holdfast.errors.missing import (
    QueueNotFound as QueueNotFound,
)
from holdfast.errors.missing import (
    RecordNotFound as RecordNotFound,
)
from holdfast.errors.missing import (
    StepNotFound as StepNotFound,
)
from holdfast.errors.missing import (
    TaskNotFound as TaskNotFound,
)
from holdfast.errors.missing import (
    WorkerNotFound as WorkerNotFound,
)
from holdfast.errors.missing import (
    WorkflowNotFound as WorkflowNotFound,
)
from holdfast.errors.platform import (
    AgentNotFound as AgentNotFound,
)
from holdfast.errors.platform import (
    DeploymentNotFound as DeploymentNotFound,
)
from holdfast.errors.platform import (
    InvalidSchedule as InvalidSchedule,
)
from holdfast.errors.platform import (
    ScheduleNotFound as ScheduleNotFound,
)
from holdfast.errors.platform import (
    WorkflowInUse as WorkflowInUse,
)
from holdfast.errors.platform import (
    WorkflowUnavailable as WorkflowUnavailable,
)
from holdfast.errors.platform import (
    WrongTaskStatus as WrongTaskStatus,
)
from holdfast.errors.root import (
    Conflict as Conflict,
)
from holdfast.errors.root import (
    DamagedData as DamagedData,
)
from holdfast.errors.root import (
    Failed as Failed,
)
from holdfast.errors.root import (
    HoldfastError as HoldfastError,
)
from holdfast.errors.root import (
    Misuse as Misuse,
)
from holdfast.errors.root import (
    NotFound as NotFound,
)
from holdfast.errors.root import (
    RetryLater as RetryLater,
)
from holdfast.errors.steps import (
    AddressRefused as AddressRefused,
)
from holdfast.errors.steps import (
    ApprovalExpired as ApprovalExpired,
)
from holdfast.errors.steps import (
    ApprovalRejected as ApprovalRejected,
)
from holdfast.errors.steps import (
    BodyFailed as BodyFailed,
)
from holdfast.errors.steps import (
    ExecutionCancelled as ExecutionCancelled,
)
from holdfast.errors.steps import (
    ExecutionFailed as ExecutionFailed,
)
from holdfast.errors.steps import (
    RequestFailed as RequestFailed,
)
from holdfast.errors.steps import (
    SignalTimeout as SignalTimeout,
)
from holdfast.errors.steps import (
    StepFailed as StepFailed,
)
from holdfast.errors.steps import (
    StepRaised as StepRaised,
)
from holdfast.errors.steps import (
    StepTimeout as StepTimeout,
)
from holdfast.errors.steps import (
    TooManyRecoveries as TooManyRecoveries,
)
from holdfast.errors.steps import (
    UnnamedBranch as UnnamedBranch,
)
from holdfast.errors.steps import (
    WorkerProcessDied as WorkerProcessDied,
)
from holdfast.errors.store import (
    AccessDenied as AccessDenied,
)
from holdfast.errors.store import (
    AuditBroken as AuditBroken,
)
from holdfast.errors.store import (
    ConstraintViolated as ConstraintViolated,
)
from holdfast.errors.store import (
    CopyDiffers as CopyDiffers,
)
from holdfast.errors.store import (
    DirectUrlElsewhere as DirectUrlElsewhere,
)
from holdfast.errors.store import (
    DowngradeRefused as DowngradeRefused,
)
from holdfast.errors.store import (
    InvalidData as InvalidData,
)
from holdfast.errors.store import (
    InvalidMigration as InvalidMigration,
)
from holdfast.errors.store import (
    MigrationChanged as MigrationChanged,
)
from holdfast.errors.store import (
    MigrationFailed as MigrationFailed,
)
from holdfast.errors.store import (
    MigrationInterrupted as MigrationInterrupted,
)
from holdfast.errors.store import (
    MigrationLocked as MigrationLocked,
)
from holdfast.errors.store import (
    MigrationNotFound as MigrationNotFound,
)
from holdfast.errors.store import (
    MigrationsPending as MigrationsPending,
)
from holdfast.errors.store import (
    MigrationUnclear as MigrationUnclear,
)
from holdfast.errors.store import (
    NoStore as NoStore,
)
from holdfast.errors.store import (
    NoWritableServer as NoWritableServer,
)
from holdfast.errors.store import (
    PoolerDetected as PoolerDetected,
)
from holdfast.errors.store import (
    PoolTimeout as PoolTimeout,
)
from holdfast.errors.store import (
    ReadOnlyServer as ReadOnlyServer,
)
from holdfast.errors.store import (
    SchemaTooNew as SchemaTooNew,
)
from holdfast.errors.store import (
    StatementTimeout as StatementTimeout,
)
from holdfast.errors.store import (
    StoreUnavailable as StoreUnavailable,
)
from holdfast.errors.store import (
    TlsFailed as TlsFailed,
)
from holdfast.errors.store import (
    TransactionConflict as TransactionConflict,
)
from holdfast.errors.store import (
    UnknownOutcome as UnknownOutcome,
)
from holdfast.errors.store import (
    UnsupportedStorage as UnsupportedStorage,
)
