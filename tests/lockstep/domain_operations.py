"""The same for the verbs of users, conversations, incidents, agents and the audit log; see `operations`."""

from __future__ import annotations

from typing import Any

from holdfast.domain.achievements import Achievements
from holdfast.domain.agents import Agents
from holdfast.domain.api_keys import ApiKeys
from holdfast.domain.audit import Act, Audit, Request
from holdfast.domain.conversations import Conversations
from holdfast.domain.deployments import Deployments
from holdfast.domain.incidents import Incidents
from holdfast.domain.runbooks import Runbooks
from holdfast.domain.schedules import Schedules
from holdfast.domain.sessions import Sessions
from holdfast.domain.tasks import NewTask, Tasks
from holdfast.domain.users import Users
from holdfast.domain.workflows import Workflows
from holdfast.errors import HoldfastError
from holdfast.fleet.agents import Agent
from holdfast.records.conversations import Conversation, Message, MessageRole
from holdfast.records.identity import Role
from holdfast.records.incidents import Incident
from holdfast.records.runbooks import Runbook
from holdfast.records.schedules import Schedule
from tests.lockstep.worlds import World, same

FLOW = "name: mend\nsteps:\n  - {id: look, shell: 'true'}\n"
NAME_MAX = 255


async def each_of(*asked: Any) -> list[str]:
    """What each of some calls comes to."""
    told = []
    for call in asked:
        try:
            told.append(repr(await call))
        except HoldfastError as error:
            told.append(type(error).__name__)
    return told


# People.


async def user_email(world: World, value: str, new: str) -> Any:
    users = Users(world.store)
    made = await users.create(f"{value}@{new}", name=value, preferences={value: value})
    read = await users.by_email(made.email)
    assert read is not None
    same(value, read.name, read.preferences[value])
    same(f"{value}@{new}", read.email)


async def user_id(world: World, value: str, new: str) -> Any:
    users = Users(world.store)
    same(value, (await users.create(f"{new}@example.com", id=value)).id, (await users.unlock(value)).id)


async def user_missing(world: World, value: str, new: str) -> Any:
    users = Users(world.store)
    return await each_of(
        users.by_email(value), users.set_role(value + new, Role.ADMIN), users.delete(value + new),
        users.restore(value + new), users.change_email(value + new, "a@example.com"),
    )  # fmt: skip


async def api_key(world: World, value: str, new: str) -> Any:
    user = await Users(world.store).create(f"{new}@example.com")
    keys = ApiKeys(world.store)
    made = await keys.create(user.id, value, scopes=[value])
    read = await keys.authenticate(made.secret.reveal())
    same(value, read.name, read.scopes[0])


async def session(world: World, value: str, new: str) -> Any:
    user = await Users(world.store).create(f"{new}@example.com")
    sessions = Sessions(world.store)
    opened = await sessions.open(user.id, device=value, user_agent=value)
    checked = await sessions.check(opened.token.reveal(), device=value)
    same(value, checked.device, checked.user_agent)
    same({value: value}, (await sessions.set_context(checked.id, **{value: value})).context)


async def credentials(world: World, value: str, new: str) -> Any:
    return await each_of(
        ApiKeys(world.store).authenticate(value), Sessions(world.store).check(value),
        ApiKeys(world.store).revoke(value), Sessions(world.store).terminate(value),
        ApiKeys(world.store).create(value + new, "laptop"), Sessions(world.store).open(value + new),
    )  # fmt: skip


async def achievement(world: World, value: str, new: str) -> Any:
    achievements = Achievements(world.store)
    await achievements.progress(value, value, by=0.5, title=value[:NAME_MAX])
    read = await achievements.get(value, value)
    assert read is not None
    same(value, read.holder, read.key, read.title)
    return len((await achievements.of(value)).items)


async def achievement_title(world: World, value: str, new: str) -> Any:
    same(value, (await Achievements(world.store).progress(new, new, by=0.5, title=value)).achievement.title)


PEOPLE = (user_email, user_id, user_missing, api_key, session, credentials, achievement, achievement_title)

# Conversations.


async def conversation_texts(world: World, value: str, new: str) -> Any:
    talks, title = Conversations(world.store), value[:NAME_MAX]
    made = await talks.start(Conversation(id=new, title=title, tags=(value,), metadata={value: value}))
    same(title, made.title)
    said = Message(role=MessageRole.USER, content=value, metadata={value: value}, tool_result={value: value})
    (message,) = await talks.append(new, said)
    rated = await talks.feedback(message.id, 1, comment=value)
    await talks.annotate(message.id, **{value: [value]})
    await talks.snapshot(new, {value: value})
    same({value: value}, await talks.context_at(new), message.tool_result)
    (read,) = await talks.newest_messages(new)
    same(value, read.content, rated.comment, (await talks.redact(message.id, value)).content)
    same({value: [value]}, read.metadata)


async def conversation_id(world: World, value: str, new: str) -> Any:
    talks = Conversations(world.store)
    await talks.start(Conversation(id=value))
    same(value, (await talks.archive(value)).id, (await talks.reopen(value)).id)
    (message,) = await talks.append(value, Message(role=MessageRole.USER, content=new))
    same(value, message.conversation_id)


async def message_id(world: World, value: str, new: str) -> Any:
    talks = Conversations(world.store)
    await talks.start(Conversation(id=new))
    (message,) = await talks.append(new, Message(id=value, role=MessageRole.USER, name="x"))
    same(value, message.id, (await talks.newest_messages(new))[0].id)


async def message_names(world: World, value: str, new: str) -> Any:
    talks = Conversations(world.store)
    await talks.start(Conversation(id=new, user_id=value, agent_id=value))
    (message,) = await talks.append(
        new, Message(role=MessageRole.TOOL, name=value, tool_call_id=value, model=value)
    )
    same(value, message.name, message.tool_call_id, message.model)


async def conversation_imported(world: World, value: str, new: str) -> Any:
    call = {"id": value, "type": "function", "function": {"name": value, "arguments": value}}
    messages = [
        {"role": "user", "content": value},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": value, "content": value},
    ]
    document = {"id": new, "title": value, "user": value, "tags": [value], "messages": messages}
    (made,) = await Conversations(world.store).import_conversations([document])
    read = await Conversations(world.store).newest_messages(new)
    same(value, made.title, made.user_id, made.tags[0])
    return [(each.content, each.tool_calls) for each in read]


async def conversation_missing(world: World, value: str, new: str) -> Any:
    talks, absent = Conversations(world.store), value + new
    return await each_of(
        talks.newest_messages(absent), talks.append(absent, Message(role=MessageRole.USER)),
        talks.delete(absent), talks.get_with_messages([absent]), talks.feedback(absent, 1),
        talks.redact(absent), talks.annotate(absent), talks.snapshot(absent, 1), talks.context_at(absent),
        talks.messages(absent), talks.archive(absent),
    )  # fmt: skip


CONVERSATIONS = (
    conversation_texts, conversation_id, message_id, message_names, conversation_imported,
    conversation_missing,
)  # fmt: skip

# Incidents and runbooks, and the log of who did what.


async def incident_texts(world: World, value: str, new: str) -> Any:
    incidents = Incidents(world.store)
    made = Incident(
        id=new, title=f"x{value}"[:NAME_MAX], description=value, tags=(value,), blast_radius=value
    )
    same((value,), (await incidents.open(made, by="ana")).tags)
    await incidents.rescope(new, by="ana", services=[value])
    solved = await incidents.resolve(new, by="ana", root_cause=f"x{value}", remediation=f"x{value}")
    same(value, solved.description, solved.blast_radius, solved.affected_services[0])
    same(f"x{value}", solved.root_cause, solved.remediation)
    data = (await incidents.note(new, f"x{value}", by="ana", data={value: value})).data
    same({value: value}, data)
    return [each.text for each in (await incidents.timeline(new)).items]


async def incident_id(world: World, value: str, new: str) -> Any:
    incidents = Incidents(world.store)
    await incidents.open(Incident(id=value, title=new), by="ana")
    same(value, (await incidents.acknowledge(value, by="ana")).id)


async def incident_actor(world: World, value: str, new: str) -> Any:
    incidents = Incidents(world.store)
    await incidents.open(Incident(id=new, title="x"), by=value, text=value)
    same(value, (await incidents.assign(new, value, by=value)).assignee)


async def incident_missing(world: World, value: str, new: str) -> Any:
    incidents, absent = Incidents(world.store), value + new
    return await each_of(
        incidents.acknowledge(absent, by="ana"), incidents.timeline(absent),
        incidents.note(absent, "x", by="ana"), incidents.close(absent, by="ana"),
    )  # fmt: skip


async def runbook(world: World, value: str, new: str) -> Any:
    runbooks = Runbooks(world.store)
    await runbooks.create(Runbook(name=value, title=new))
    published = await runbooks.publish(value, FLOW, author="ana", note=value)
    run = await runbooks.run(value, id=new)
    same(value, (await runbooks.get(value)).name, published.note)
    return run.edition


async def runbook_texts(world: World, value: str, new: str) -> Any:
    runbooks = Runbooks(world.store)
    conditions = {"tags": [value]}
    await runbooks.create(Runbook(name=new, title=new, description=value, trigger_conditions=conditions))
    amended = await runbooks.amend(new, tags=[value])
    same(value, amended.description, amended.tags[0])
    same(conditions, amended.trigger_conditions)


async def runbook_run(world: World, value: str, new: str) -> Any:
    runbooks = Runbooks(world.store)
    await runbooks.create(Runbook(name=new, title=new))
    await runbooks.publish(new, FLOW)
    run = await runbooks.run(new, id=value, started_by=value, queue=value)
    same(value, run.id, run.started_by, run.queue)


async def runbook_missing(world: World, value: str, new: str) -> Any:
    runbooks, absent = Runbooks(world.store), value + new
    return await each_of(
        runbooks.get(absent), runbooks.run(absent), runbooks.settle(absent), runbooks.publish(absent, FLOW),
        runbooks.publish(new, value), runbooks.editions(absent), runbooks.run(new, incident=absent),
    )  # fmt: skip


async def audit(world: World, value: str, new: str) -> Any:
    log = Audit(world.store)
    act = Act(
        action="edit", actor="ana", resource_kind="note", resource_id=new, before={value: value},
        after={value: [value]}, details={value: value}, request=Request(user_agent=value),
    )  # fmt: skip
    entry = await log.append(act)
    assert (await log.verify()).holds
    same({value: value}, entry.before, entry.details)
    return entry.user_agent


async def audit_names(world: World, value: str, new: str) -> Any:
    log = Audit(world.store)
    return await each_of(
        log.append(Act(action=value, actor="ana")), log.append(Act(action="x", actor=value)),
        log.append(Act(action="x", actor="ana", resource_kind=value, resource_id=new)),
        log.append(Act(action="x", actor="ana", resource_kind="note", resource_id=value)),
        log.append(Act(action="x", actor="ana", request=Request(ip=value))),
        log.append(Act(action="x", actor="ana", request=Request(request_id=value))),
    ) and None  # fmt: skip


INCIDENTS = (
    incident_texts, incident_id, incident_actor, incident_missing, runbook, runbook_texts, runbook_run,
    runbook_missing, audit, audit_names,
)  # fmt: skip

# Agents, tasks, schedules, versions.


async def agent(world: World, value: str, new: str) -> Any:
    agents = Agents(world.store)
    made = await agents.register(
        value, capabilities=[value, new], role=value, type=value, metadata={value: value}
    )
    same(value, made.id, made.capabilities[0], made.role, made.type)
    same({value: value}, made.metadata)
    assert value in [each.agent.id for each in await agents.able(value)]
    async with Agent(world.store, value, capabilities=[value], metadata={value: value}):
        same({value: value}, (await agents.get(value)).agent.metadata)


async def agent_metadata(world: World, value: str, new: str) -> Any:
    facts = {"k": value, value: [value]}
    same(facts, (await Agents(world.store).register(new, capabilities=["x"], metadata=facts)).metadata)
    return len(await Agents(world.store).able("nothing"))


async def agent_missing(world: World, value: str, new: str) -> Any:
    agents, absent = Agents(world.store), value + new
    return await each_of(agents.get(absent), agents.heartbeat(absent), agents.able(absent))


async def task(world: World, value: str, new: str) -> Any:
    tasks = Tasks(world.store)
    made = await tasks.create(new, {value: value}, metadata={value: value})
    same({value: value}, (await tasks.get(made.id)).payload, (await tasks.get(made.id)).metadata)
    claimed = await tasks.claim("ana", [new])
    assert claimed is not None
    await tasks.complete(claimed, value)
    same(value, (await tasks.get(made.id)).result)
    failing = await tasks.create(new, max_attempts=1)
    claimed = await tasks.claim("ana", [new])
    assert claimed is not None
    await tasks.fail(claimed, {"message": value, value: value})
    return (await tasks.get(failing.id)).error


async def task_names(world: World, value: str, new: str) -> Any:
    tasks = Tasks(world.store)
    made = await tasks.create(value, type=value)
    claimed = await tasks.claim(value, [value])
    assert claimed is not None
    same(value, claimed.capability, claimed.agent, (await tasks.get(made.id)).type)


async def task_id(world: World, value: str, new: str) -> Any:
    tasks = Tasks(world.store)
    new_tasks = [NewTask(capability="none", id=value), NewTask(capability="none", id=new, depends_on=[value])]
    same(value, *[(await tasks.create_many(new_tasks))[0].id], (await tasks.get(new)).depends_on[0])
    same(value, (await tasks.cancel(value, value)).id)


async def task_missing(world: World, value: str, new: str) -> Any:
    tasks, absent = Tasks(world.store), value + new
    return await each_of(
        tasks.get(absent), tasks.cancel(absent), tasks.requeue(absent),
        tasks.create("x", depends_on=[absent]), tasks.claim(absent, ["none"]), tasks.claim("ana", [absent]),
    ) and None  # fmt: skip


async def schedule(world: World, value: str, new: str) -> Any:
    schedules = Schedules(world.store)
    await schedules.create(Schedule(id=value, workflow=value, cron="0 4 * * *"))
    same(value, (await schedules.pause(value)).id, (await schedules.get(value)).workflow)


async def schedule_times(world: World, value: str, new: str) -> Any:
    schedules = Schedules(world.store)
    return await each_of(
        schedules.create(Schedule(id=new, workflow="x", cron=value)),
        schedules.create(Schedule(id=new, workflow="x", cron="@daily", zone=value)),
        schedules.get(value + new), schedules.delete(value + new), schedules.pause(value + new),
    ) and None  # fmt: skip


async def version(world: World, value: str, new: str) -> Any:
    definition = await world.store.newest_definition("echo")
    assert definition is not None
    await world.store.register_workflow(definition)
    described = await Workflows(world.store).describe("echo", "1", description=value, tags=(value,))
    same(value, described.description, described.tags[0])
    deployed = await Deployments(world.store).deploy("echo", "1", value, by=value)
    active = await Deployments(world.store).active("echo", value)
    assert active is not None
    same(value, deployed.environment, deployed.deployed_by, active.environment)


async def version_missing(world: World, value: str, new: str) -> Any:
    workflows, deployments, absent = Workflows(world.store), Deployments(world.store), value + new
    return await each_of(
        workflows.version(absent), workflows.version("echo", absent), workflows.delete(absent),
        workflows.restore("echo", absent), deployments.deploy(absent, value),
        deployments.deploy("echo", absent), deployments.active(absent), deployments.active("echo", absent),
        deployments.rollback("echo", absent), workflows.search(absent),
    )  # fmt: skip


WORK = (
    agent, agent_metadata, agent_missing, task, task_names, task_id, task_missing, schedule, schedule_times,
    version, version_missing,
)  # fmt: skip
