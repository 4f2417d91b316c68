"""SQL of Placement's HTTP API: reading and changing providers, traits, classes, aggregates, usages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kilonova.db.database import Tx
from kilonova.db.statement import Row, Statement, Value, in_list, in_values

_PROVIDER = "p.uuid, p.name, p.parent, p.root, p.generation, p.updated_at"
PROVIDER = Statement(f"SELECT {_PROVIDER} FROM resource_providers p WHERE p.uuid = :uuid")
TREE = Statement("SELECT uuid, parent FROM resource_providers WHERE root = :root")
CHILD = Statement("SELECT uuid FROM resource_providers WHERE parent = :uuid LIMIT 1")
RAISE = Statement(
    """UPDATE resource_providers SET generation = generation + 1, revision = revision + 1, updated_at = :now
       WHERE uuid = :uuid AND generation = :generation"""
)
RENAME = Statement("UPDATE resource_providers SET name = :name, updated_at = :now WHERE uuid = :uuid")
SET_PARENT = Statement("UPDATE resource_providers SET parent = :parent WHERE uuid = :uuid")
SET_ROOT = Statement("UPDATE resource_providers SET root = :root WHERE uuid = :uuid")
NAMED = Statement("SELECT uuid FROM resource_providers WHERE name = :name")
DELETE_PROVIDER = Statement("DELETE FROM resource_providers WHERE uuid = :uuid AND consumers = 0")
DELETE_INVENTORIES = Statement("DELETE FROM inventories WHERE provider = :uuid")
DELETE_TRAITS = Statement("DELETE FROM provider_traits WHERE provider = :uuid")
DELETE_AGGREGATES = Statement("DELETE FROM provider_aggregates WHERE provider = :uuid")
INVENTORIES = Statement(
    """SELECT resource_class, total, reserved, min_unit, max_unit, step_size, allocation_ratio, used
       FROM inventories WHERE provider = :uuid ORDER BY resource_class"""
)
PROVIDER_ALLOCATIONS = Statement(
    """SELECT a.consumer, a.resource_class, a.amount, c.generation FROM allocations a
       JOIN consumers c ON c.uuid = a.consumer WHERE a.provider = :uuid"""
)
CONSUMER_ALLOCATIONS = Statement(
    """SELECT a.provider, p.generation, a.resource_class, a.amount, c.generation, c.project_id, c.user_id, c.type,
              c.updated_at
       FROM consumers c JOIN allocations a ON a.consumer = c.uuid JOIN resource_providers p ON p.uuid = a.provider
       WHERE c.uuid = :uuid"""
)
_USAGE = """SELECT c.type, a.resource_class, CAST(SUM(a.amount) AS BIGINT) FROM consumers c
            JOIN allocations a ON a.consumer = c.uuid WHERE c.project_id = :project_id"""
USAGE = Statement(_USAGE + " GROUP BY c.type, a.resource_class")
USER_USAGE = Statement(_USAGE + " AND c.user_id = :user_id GROUP BY c.type, a.resource_class")
_COUNT = "SELECT type, COUNT(*) FROM consumers WHERE project_id = :project_id"
CONSUMER_COUNT = Statement(_COUNT + " GROUP BY type")
USER_CONSUMER_COUNT = Statement(_COUNT + " AND user_id = :user_id GROUP BY type")
TRAITS_OF = Statement("SELECT trait FROM provider_traits WHERE provider = :uuid ORDER BY trait")
AGGREGATES_OF = Statement("SELECT aggregate FROM provider_aggregates WHERE provider = :uuid ORDER BY aggregate")
INSERT_AGGREGATE = Statement("INSERT INTO provider_aggregates (provider, aggregate) VALUES (:provider, :aggregate)")
CUSTOM_TRAITS = Statement("SELECT name FROM traits ORDER BY name")
CUSTOM_TRAIT = Statement("SELECT created_at FROM traits WHERE name = :name")
INSERT_TRAIT = Statement("INSERT INTO traits (name, created_at) VALUES (:name, :now)")
DELETE_TRAIT = Statement(
    """DELETE FROM traits WHERE name = :name AND NOT EXISTS
       (SELECT 1 FROM provider_traits WHERE trait = :name)"""
)
ASSOCIATED_TRAITS = Statement("SELECT DISTINCT trait FROM provider_traits")
CUSTOM_CLASSES = Statement("SELECT name FROM resource_classes ORDER BY created_at, name")
CUSTOM_CLASS = Statement("SELECT created_at FROM resource_classes WHERE name = :name")
INSERT_CLASS = Statement("INSERT INTO resource_classes (name, created_at) VALUES (:name, :now)")
DELETE_CLASS = Statement(
    """DELETE FROM resource_classes WHERE name = :name AND NOT EXISTS
       (SELECT 1 FROM inventories WHERE resource_class = :name)"""
)
RENAME_INVENTORIES = Statement("UPDATE inventories SET resource_class = :new WHERE resource_class = :name")
RENAME_ALLOCATIONS = Statement(
    "UPDATE allocations SET resource_class = :new WHERE resource_class = :name",
    scans="an administrator renames a custom class, which only versions below 1.7 can",
)


@dataclass
class ProviderFilter:
    """Which providers: every condition must hold. Each inner list is any-of."""

    name: str | None = None
    uuid: str | None = None
    in_tree: str | None = None
    resources: dict[str, int] = field(default_factory=dict)
    required: list[list[str]] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    member_of: list[list[str]] = field(default_factory=list)
    not_member_of: list[str] = field(default_factory=list)
    root_required: list[str] = field(default_factory=list)
    root_forbidden: list[str] = field(default_factory=list)
    limit: int | None = None

    def statement(self) -> tuple[Statement, dict[str, Value]]:
        """SELECT of provider rows (uuid, name, parent, root, generation, updated_at, traits as JSON), by name."""
        self._params: dict[str, Value] = {}
        where = ["1 = 1"]
        for column, value in (("name", self.name), ("uuid", self.uuid)):
            if value is not None:
                where.append(f"p.{column} = {self._bind(value)}")
        if self.in_tree is not None:
            tree = self._bind(self.in_tree)
            where.append(f"p.root = (SELECT t.root FROM resource_providers t WHERE t.uuid = {tree})")
        for name, amount in self.resources.items():
            n, c = self._bind(amount), self._bind(name)
            where.append(
                f"EXISTS (SELECT 1 FROM inventories i WHERE i.provider = p.uuid AND i.resource_class = {c}"
                f" AND i.used + {n} <= i.capacity AND i.min_unit <= {n} AND i.max_unit >= {n}"
                f" AND {n} % i.step_size = 0)"
            )
        for names in self.required:
            where.append(self._linked("provider_traits", "trait", names, "p.uuid"))
        if self.forbidden:
            where.append("NOT " + self._linked("provider_traits", "trait", self.forbidden, "p.uuid"))
        for name in self.root_required:
            where.append(self._linked("provider_traits", "trait", [name], "p.root"))
        if self.root_forbidden:
            where.append("NOT " + self._linked("provider_traits", "trait", self.root_forbidden, "p.root"))
        for uuids in self.member_of:
            where.append(self._linked("provider_aggregates", "aggregate", uuids, "p.uuid"))
        if self.not_member_of:
            where.append("NOT " + self._linked("provider_aggregates", "aggregate", self.not_member_of, "p.uuid"))
        tail = "" if self.limit is None else f" LIMIT {self._bind(self.limit)}"
        given = " AND ".join(where)
        sql = f"SELECT {_PROVIDER}, p.traits FROM resource_providers p WHERE {given} ORDER BY p.name{tail}"
        return Statement(sql), self._params

    def _bind(self, value: Value) -> str:
        name = f"v_{len(self._params)}"
        self._params[name] = value
        return ":" + name

    def _linked(self, table: str, column: str, values: Sequence[str], owner: str) -> str:
        listed = ", ".join(self._bind(value) for value in values)
        return f"EXISTS (SELECT 1 FROM {table} l WHERE l.provider = {owner} AND l.{column} IN ({listed}))"


def among(sql: str, uuids: Sequence[str]) -> tuple[Statement, dict[str, Value]]:
    """``sql`` with ``{}`` as the list of uuids, at most 1,000."""
    values: list[Value] = list(uuids)
    return Statement(sql.format(in_list("uuid", len(values))[0])), in_values("uuid", values)


USAGE_AMONG = "SELECT provider, resource_class, capacity, used FROM inventories WHERE provider IN {}"


async def raise_generation(tx: Tx, uuid: str, generation: int, now: int) -> bool:
    """Raise a provider's generation if it still is `generation`."""
    return await tx.execute(RAISE, {"uuid": uuid, "generation": generation, "now": now}) == 1


async def provider(tx: Tx, uuid: str) -> Row | None:
    """(uuid, name, parent, root, generation, updated_at)."""
    return await tx.fetch_one(PROVIDER, {"uuid": uuid})
