"""The identity API's resources, one file each: routes and what they do.

Every handler takes a `Call` and answers a `Response`; errors are http errors.
"""

from kilonova.identity.resources.table import all_routes

__all__ = ["all_routes"]
