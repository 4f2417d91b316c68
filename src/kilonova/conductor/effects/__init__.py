"""What stories write: functions over one transaction, each exactly once where it runs.

They decide nothing that a story should decide, and touch one database.
"""
