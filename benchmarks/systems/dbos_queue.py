"""DBOS queues: blocking workflows without steps, taken from one queue by one process.

Without options the queue is looked at once a second, as by default, and takes as many as `worker_concurrency`
allows. The options are what its best mode was looked for with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSClient, EnqueueOptions

from benchmarks.systems.dbos import configuration, facts
from benchmarks.systems.meter import Meter, Request, measure_threads, report
from benchmarks.systems.queueing import Dispatches, Drain, copies, produce_blocking

request = Request.from_arguments()
options = request.options
counter = Drain(request)
dispatches = Dispatches(request, "benchmarks.systems.dbos_queue")


@DBOS.workflow(name="noop")
def noop(sent: str) -> None:
    if request.scenario == "dispatch":
        dispatches.began(sent)
    else:
        counter.ran()


def launch() -> None:
    config = configuration()
    config["application_version"] = "bench"
    DBOS(config=config)
    DBOS.launch()


def register() -> None:
    DBOS.register_queue(
        "bench",
        worker_concurrency=int(options.get("worker_concurrency", "100")),
        polling_interval_sec=float(options.get("polling", "1.0")),
    )


class Filling:
    """Copies of one workflow that DBOS enqueued, as it writes them and as it leaves finished ones."""

    def __init__(self) -> None:
        url = configuration()["system_database_url"]
        assert url is not None
        self.is_server = request.backend == "postgresql"
        if self.is_server:
            url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        self.schema = "dbos" if self.is_server else None
        self.engine = sqlalchemy.create_engine(url)

    def table(self, name: str) -> str:
        return f"{self.schema}.{name}" if self.schema else name

    def fill(self) -> None:
        # Nobody looks into a queue that is not registered yet.
        template = DBOS.enqueue_workflow("bench", noop, "0").get_workflow_id()
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            finished = {
                "status": "'SUCCESS'", "recovery_attempts": "1", "started_at_epoch_ms": "t.created_at",
                "completed_at": "t.created_at",
            }  # fmt: skip
            run = connection.exec_driver_sql
            self._copy(run, template, "finished", request.finished, finished)
            run(
                f"INSERT INTO {self.table('workflow_output')} (workflow_uuid, output, retention_timestamp) "
                f"SELECT workflow_uuid, 'gAROLg==', completed_at FROM {self.table('workflow_status')} "
                "WHERE status = 'SUCCESS'"
            )
            self._copy(run, template, "waiting", request.waiting + request.jobs - 1, {})
            run("VACUUM ANALYZE" if self.is_server else "ANALYZE")

    def _copy(
        self, run: Callable[[str], Any], template: str, prefix: str, count: int, changed: dict[str, str]
    ) -> None:
        numbers = f"generate_series(1, {count}) AS n"
        if not self.is_server:
            numbers = (
                f"(WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) "
                f"SELECT n FROM c WHERE n <= {count})"
            )
        unlike = changed | {"created_at": "t.created_at - 10000000 + n"}
        for name in ("workflow_status", "workflow_input"):
            columns = [
                c["name"] for c in sqlalchemy.inspect(self.engine).get_columns(name, schema=self.schema)
            ]
            fresh = {"workflow_uuid": f"'{prefix}-' || n", "creator_xid": f"'{prefix}-' || n"}
            run(copies(self.table(name), columns, fresh | unlike, numbers, f"t.workflow_uuid = '{template}'"))

    def finished(self) -> int:
        question = f"SELECT count(*) FROM {self.table('workflow_status')} WHERE status = 'SUCCESS'"
        with self.engine.connect() as connection:
            return int(connection.exec_driver_sql(question).scalar_one())


def figures() -> dict[str, Any]:
    if request.scenario == "enqueue":
        meter = Meter(request)

        def one() -> None:
            since = time.perf_counter()
            DBOS.enqueue_workflow("bench", noop, "0")
            meter.ack(since)

        return measure_threads(meter, one)
    if request.scenario == "dispatch":
        register()
        dispatches.start()
        return dispatches.wait()
    filling = Filling()
    filling.fill()
    register()
    counter.wait()
    return counter.figures(filling.finished)


def main() -> None:
    if request.scenario == "produce":
        client = DBOSClient(system_database_url=configuration()["system_database_url"])
        where: EnqueueOptions = {"queue_name": "bench", "workflow_name": "noop", "app_version": "bench"}
        produce_blocking(lambda sent: client.enqueue(where, sent))
        return
    launch()
    report(**figures(), durability=" ".join(sorted(facts)))


if __name__ == "__main__":
    main()
