"""Putting the rooms together: the only place where they know each other.

`whole` is the cloud of `kilonova up`; the service sub-commands use the same parts one at a time.
"""
