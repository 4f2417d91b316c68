"""The sim world: a model of hypervisor hosts that outlives the process that uses it."""
