"""Comparing what the records say with what is there: nothing stuck, leaked or double-booked.

`gather` reads the records, the caller brings the world, `compare` names every difference. Pure but for the
reads; proven by tests that plant each kind of fault.
"""

from kilonova.conductor.audit.compare import Finding, compare
from kilonova.conductor.audit.records import Records, gather
from kilonova.conductor.audit.world import SeenGuest, World

__all__ = ["Finding", "Records", "SeenGuest", "World", "compare", "gather"]
