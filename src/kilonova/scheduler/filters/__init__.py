"""Filters by Nova's names, one file each. A filter is a mask over all hosts; see `protocol`."""
