"""SQL of the journal: operations, steps, debts, owners (contracts: 1). Facts in and out, no decisions."""

from __future__ import annotations

from kilonova.db.statement import Statement

_COLUMNS = """id, story, version, state, target, number, owner, epoch, inputs, before_image, error, superseded,
    forward_only, spent_us, wake_at, request_id, user_id, project_id, created_at, ended_at"""

LOAD = Statement(f"SELECT {_COLUMNS} FROM operations WHERE id = :id")

# What nobody has and could begin now: not behind another in its lane, not taken by a delete.
FRESH = Statement(
    """SELECT id, story, version, created_at FROM operations f
       WHERE ended_at IS NULL AND owner IS NULL AND superseded = 0
         AND (created_at > :after OR (created_at = :after AND id > :after_id))
         AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.target = f.target AND o.number < f.number
                         AND o.ended_at IS NULL AND o.superseded = 0)
       ORDER BY created_at, id LIMIT :limit"""
)
MINE_DUE = Statement(
    """SELECT id FROM operations WHERE ended_at IS NULL AND owner = :owner
       AND (wake_at IS NULL OR wake_at <= :now)"""
)
# Waiting for a signal that has come (its wake may be lost).
MINE_SIGNALLED = Statement(
    """SELECT id FROM operations o WHERE ended_at IS NULL AND owner = :owner AND wake_at > :now
       AND EXISTS (SELECT 1 FROM signals s WHERE s.subject = COALESCE(o.target, o.id))"""
)
STILL_MINE = Statement(
    """SELECT 1 FROM operations WHERE id = :id AND owner = :me AND epoch = :epoch AND superseded = 0
       AND ended_at IS NULL"""
)
IS_OPEN = Statement("SELECT 1 FROM operations WHERE id = :id AND ended_at IS NULL AND superseded = 0")
STEPS = Statement(
    """SELECT name, item, seq, kind, state, digest, port, args, output, undo_call, error, attempts, spent_us, started_at
       FROM steps WHERE operation_id = :id ORDER BY seq"""
)

# The first boundary takes the operation: nobody else has it, nothing older in its lane is open.
TAKE = Statement(
    """UPDATE operations SET owner = :me, epoch = epoch + 1, state = :state, forward_only = :forward_only,
         wake_at = :wake_at, updated_at = :now, ended_at = :ended_at, error = :error, result = :result
       WHERE id = :id AND owner IS NULL AND epoch = :epoch AND superseded = 0 AND ended_at IS NULL
         AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.target = :target AND o.number < :number
                         AND o.ended_at IS NULL AND o.superseded = 0)"""
)
# Every later boundary: still mine, still this epoch, not superseded.
HOLD = Statement(
    """UPDATE operations SET state = :state, forward_only = :forward_only, wake_at = :wake_at,
         spent_us = :spent_us, updated_at = :now, ended_at = :ended_at, error = :error, result = :result
       WHERE id = :id AND owner = :me AND epoch = :epoch AND superseded = 0 AND ended_at IS NULL"""
)
ADOPT = Statement(
    """UPDATE operations SET owner = :me, epoch = epoch + 1, updated_at = :now
       WHERE id = :id AND owner = :owner AND epoch = :epoch AND superseded = 0 AND ended_at IS NULL"""
)
ABANDONED = Statement(
    """SELECT id, owner, epoch, story, version FROM operations WHERE ended_at IS NULL AND superseded = 0
       AND owner IS NOT NULL AND owner <> :me"""
)
HAS_LANE_MATES = Statement(
    "SELECT id FROM operations WHERE target = :target AND ended_at IS NULL AND owner IS NULL ORDER BY number LIMIT 1"
)

INSERT_STEP = Statement(
    """INSERT INTO steps (operation_id, name, item, seq, kind, state, digest, args, output, undo_call, error,
         attempts, spent_us, port, started_at, finished_at)
       VALUES (:operation_id, :name, :item, :seq, :kind, :state, :digest, :args, :output, :undo, :error,
           :attempts, :spent_us, :port, :started_at, :finished_at)"""
)
UPDATE_STEP = Statement(
    """UPDATE steps SET state = :state, output = :output, error = :error, attempts = :attempts,
         spent_us = :spent_us, finished_at = :finished_at
       WHERE operation_id = :operation_id AND name = :name AND item = :item"""
)

# Seconds spent on a step that has not ended yet.
SAVE_SPENT = Statement(
    """UPDATE steps SET attempts = :attempts, spent_us = :spent_us
       WHERE operation_id = :id AND name = :name AND item = :item AND state = 'intent'
         AND EXISTS (SELECT 1 FROM operations o WHERE o.id = :id AND o.owner = :me AND o.epoch = :epoch)"""
)

INSERT_DEBT = Statement(
    """INSERT INTO debts (id, operation_id, step, holder, kind, resource, payload, state, attempts, error,
         created_at, updated_at)
       VALUES (:id, :operation_id, :step, :holder, :kind, :resource, :payload, 'open', 0, :error, :now, :now)"""
)
# Of operations that have ended: until then they may still see to it themselves.
OPEN_DEBTS = Statement(
    """SELECT d.id, d.operation_id, d.resource, d.payload, d.attempts, o.epoch
       FROM debts d JOIN operations o ON o.id = d.operation_id
       WHERE d.state = 'open' AND d.holder = :holder AND o.ended_at IS NOT NULL
       ORDER BY d.attempts, d.updated_at LIMIT :limit"""
)
# An admin gave them up; what they keep is still held.
WRITTEN_OFF = Statement(
    """SELECT d.id, d.operation_id, d.resource, d.payload, d.attempts, d.attempts FROM debts d
       WHERE d.state = 'written-off' ORDER BY d.updated_at LIMIT :limit"""
)
LET_GO = Statement("UPDATE debts SET state = 'let-go', updated_at = :now WHERE id = :id AND state = 'written-off'")
LOCK_DEBTS = Statement("UPDATE debts SET updated_at = :now WHERE state = 'open' AND resource = :resource")
DEBTS_OF = Statement("SELECT id, payload FROM debts WHERE state = 'open' AND resource = :resource")
OWES = Statement("SELECT 1 FROM debts WHERE state = 'open' AND resource = :resource LIMIT 1")
HOME = Statement("SELECT host, next_number FROM servers WHERE uuid = :server")
LAST_HOME = Statement("SELECT host, next_number FROM servers_archive WHERE uuid = :server")
LANE_IS_OPEN = Statement(
    "SELECT 1 FROM operations WHERE target = :server AND ended_at IS NULL AND superseded = 0 LIMIT 1"
)
PAY_DEBT = Statement(
    "UPDATE debts SET state = :state, error = :error, updated_at = :now WHERE id = :id AND state = 'open'"
)
NOTE_DEBT = Statement("UPDATE debts SET error = :error, updated_at = :now WHERE id = :id AND state = 'open'")
# `attempts`: how often it was refused.
TRY_DEBT = Statement(
    "UPDATE debts SET attempts = attempts + 1, error = :error, updated_at = :now WHERE id = :id AND state = 'open'"
)

INSERT_OWNER = Statement(
    "INSERT INTO owners (incarnation, name, beat, ended, started_at) VALUES (:incarnation, :name, 0, 0, :now)"
)
BEAT = Statement("UPDATE owners SET beat = beat + 1 WHERE incarnation = :incarnation AND ended = 0")
OWNERS = Statement("SELECT incarnation, beat FROM owners WHERE ended = 0")
LEAVE = Statement("UPDATE owners SET ended = 1 WHERE incarnation = :incarnation")
END_OWNER = Statement("UPDATE owners SET ended = 1 WHERE incarnation = :incarnation AND ended = 0 AND beat = :beat")
OWNERS_OF_OPEN = Statement(
    """SELECT DISTINCT o.owner FROM operations o WHERE o.ended_at IS NULL AND o.owner IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM owners w WHERE w.incarnation = o.owner AND w.ended = 0)"""
)

FIND_RECEIPT = Statement("SELECT output FROM receipts WHERE operation_id = :operation_id AND step = :step")
INSERT_RECEIPT = Statement(
    "INSERT INTO receipts (operation_id, step, output, created_at) VALUES (:operation_id, :step, :output, :now)"
)

SIGNAL = Statement(
    """SELECT id, payload FROM signals WHERE subject = :subject AND name = :name AND tag = :tag
       ORDER BY created_at LIMIT 1"""
)
INSERT_SIGNAL = Statement(
    """INSERT INTO signals (id, subject, name, tag, payload, created_at)
       VALUES (:id, :subject, :name, :tag, :payload, :now)"""
)

LANE_STEPS = Statement(
    """SELECT s.operation_id, s.name, s.item, s.port, s.state, s.undo_call FROM steps s
       JOIN operations o ON o.id = s.operation_id
       WHERE o.target = :target AND o.superseded = 1 AND o.number < :number"""
)
END_SUPERSEDED = Statement(
    """UPDATE operations SET state = 'superseded', ended_at = :now, updated_at = :now
       WHERE target = :target AND number < :number AND superseded = 1 AND ended_at IS NULL"""
)
OPEN_COUNT = Statement("SELECT COUNT(*) FROM operations WHERE ended_at IS NULL")
