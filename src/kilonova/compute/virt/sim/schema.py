"""The sim world's tables and statements.

Why a database of its own: what a hypervisor holds (guests, disks, taps) must survive the death of the
process that made it, and a checker must be able to read it while nobody runs. Every row says its host and
the cloud that made it. Nothing in here knows the cloud's own databases.
"""

from __future__ import annotations

TABLES = """
CREATE TABLE IF NOT EXISTS guest (
  host TEXT NOT NULL, uuid TEXT NOT NULL, cloud TEXT NOT NULL, name TEXT NOT NULL,
  instance_name TEXT NOT NULL, vcpus INTEGER NOT NULL, memory_mb INTEGER NOT NULL,
  power INTEGER NOT NULL, note TEXT NOT NULL,
  told TEXT NOT NULL, console BLOB NOT NULL, PRIMARY KEY (host, uuid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS disk (
  host TEXT NOT NULL, uuid TEXT NOT NULL, cloud TEXT NOT NULL, gb INTEGER NOT NULL, image TEXT NOT NULL,
  serial TEXT NOT NULL, PRIMARY KEY (host, uuid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tap (
  host TEXT NOT NULL, uuid TEXT NOT NULL, port TEXT NOT NULL, cloud TEXT NOT NULL, mac TEXT NOT NULL,
  PRIMARY KEY (host, uuid, port)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS size (
  host TEXT NOT NULL PRIMARY KEY, vcpus INTEGER NOT NULL, memory_mb INTEGER NOT NULL,
  local_gb INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fault (
  id INTEGER PRIMARY KEY, host TEXT NOT NULL, method TEXT NOT NULL, point TEXT NOT NULL, delay REAL NOT NULL,
  action TEXT NOT NULL, times INTEGER NOT NULL);
"""

DISK = "INSERT OR IGNORE INTO disk (host, uuid, cloud, gb, image, serial) VALUES (?, ?, ?, ?, ?, ?)"
TAP = "INSERT OR REPLACE INTO tap (host, uuid, port, cloud, mac) VALUES (?, ?, ?, ?, ?)"
GUEST = (
    "INSERT INTO guest (host, uuid, cloud, name, instance_name, vcpus, memory_mb, power, note, told, console)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, 4, '', ?, x'')"
    " ON CONFLICT (host, uuid) DO UPDATE SET name = excluded.name, vcpus = excluded.vcpus,"
    " memory_mb = excluded.memory_mb, told = CASE excluded.told WHEN '' THEN told ELSE excluded.told END"
)
# The world keeps the last 64 KiB of what a guest said.
RESTART = (
    "UPDATE guest SET power = 1, note = '',"
    " console = substr(CAST(console || ? || told || ? AS BLOB), -65536) WHERE host = ? AND uuid = ?"
)
BOOT = RESTART + " AND power <> 1"
POWER = "UPDATE guest SET power = ?, note = ? WHERE host = ? AND uuid = ?"
DROP_GUEST = "DELETE FROM guest WHERE host = ? AND uuid = ?"
DROP_TAPS = "DELETE FROM tap WHERE host = ? AND uuid = ?"
DROP_DISK = "DELETE FROM disk WHERE host = ? AND uuid = ?"

GET_GUEST = "SELECT power, note FROM guest WHERE host = ? AND uuid = ? AND cloud = ?"
GET_CONSOLE = "SELECT console FROM guest WHERE host = ? AND uuid = ? AND cloud = ?"
GET_DISK = "SELECT serial FROM disk WHERE host = ? AND uuid = ?"
LIST_GUESTS = "SELECT uuid, power, note FROM guest WHERE host = ? AND cloud = ?"
