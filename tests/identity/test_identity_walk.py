"""Many processes change the same data at random: all end with the same, and nothing names what is not there."""

from __future__ import annotations

import asyncio
import random

from kilonova.db.errors import Busy
from kilonova.db.open import Databases
from kilonova.identity.directory import Directory, Edit
from kilonova.identity.records import (
    KINDS,
    SYSTEM,
    Domain,
    Grant,
    Group,
    Implication,
    Membership,
    Project,
    Role,
    User,
    new_id,
)
from kilonova.identity.state import State

SEED = 4711


def step(chance: random.Random, state: State, edit: Edit) -> None:
    """One random change that keeps the rules, decided on what is seen."""
    domains, users = state.values(Domain), state.values(User)
    groups, projects, roles = state.values(Group), state.values(Project), state.values(Role)
    name = f"n{chance.randrange(30)}"
    kind = chance.randrange(9)
    if kind == 0 or not domains:
        new = Domain(id=new_id(), name=name)
    elif kind == 1 or not users:
        new = User(id=new_id(), name=name, domain_id=chance.choice(domains).id)
    elif kind == 2 or not groups:
        new = Group(id=new_id(), name=name, domain_id=chance.choice(domains).id)
    elif kind == 3 or not projects:
        domain = chance.choice(domains).id
        new = Project(id=new_id(), name=name, domain_id=domain, parent_id=domain)
    elif kind == 4 or not roles:
        new = Role(id=new_id(), name=name)
    elif kind == 5:
        actor, target, role = chance.choice(users).id, chance.choice(projects).id, chance.choice(roles).id
        new = Grant(actor=actor, target=target, on="project", role=role)
    elif kind == 6:
        new = Membership(group_id=chance.choice(groups).id, user_id=chance.choice(users).id)
    elif kind == 7:
        actor, role = chance.choice(groups).id, chance.choice(roles).id
        new = Grant(actor=actor, group=True, target=SYSTEM, on="system", role=role)
    else:
        edit.delete(chance.choice([*domains, *users, *groups, *projects, *roles]))
        return
    if not state.name_taken(new):
        edit.put(new)


def contents(state: State) -> dict[str, dict[str, object]]:
    return {name: dict(state.all(kind)) for name, kind in KINDS.items()}


def dangling(state: State) -> list[object]:
    """Records that name what is not there."""
    def missing(kind: type, key: str) -> bool:
        return state.get(kind, key) is None

    return [
        *(g for _, g in state.all(Grant) if missing(Group if g.group else User, g.actor) or missing(Role, g.role)
          or (g.on == "project" and missing(Project, g.target))),
        *(m for _, m in state.all(Membership) if missing(Group, m.group_id) or missing(User, m.user_id)),
        *(r for kind in (User, Group, Project) for _, r in state.all(kind) if missing(Domain, r.domain_id)),
        *(i for _, i in state.all(Implication) if missing(Role, i.prior) or missing(Role, i.implied)),
    ]  # fmt: skip


async def test_a_random_walk_of_three(databases: Databases) -> None:
    walkers = [Directory(databases.global_) for _ in range(3)]

    async def walk(directory: Directory, chance: random.Random) -> int:
        await directory.start()
        lost = 0
        for _ in range(60):
            fork = chance.random()
            try:
                await directory.change(lambda state, edit, fork=fork: step(random.Random(fork), state, edit))
            except Busy:
                lost += 1
            if chance.random() < 0.1:
                await directory.trim()
        return lost

    lost = await asyncio.gather(*(walk(each, random.Random(SEED + i)) for i, each in enumerate(walkers)))
    assert sum(lost) < 30
    fresh = Directory(databases.global_)
    await fresh.start()
    assert dangling(fresh.state) == []
    names = [(each.domain_id, each.name) for each in fresh.state.values(User)]
    assert len(names) == len(set(names))
    for each in walkers:
        await each.refresh()
        assert contents(each.state) == contents(fresh.state), f"seed {SEED}"
        assert each.state.version == fresh.state.version
        for user in each.state.values(User):
            assert each.state.roles(user.id, SYSTEM) == fresh.state.roles(user.id, SYSTEM)
    assert len(contents(fresh.state)["user"]) > 3
