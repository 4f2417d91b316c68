"""Statements that do not keep the rules yet, by ``room.module.NAME``. The lists may only get shorter.

Ways out: an index; ``Statement(..., scans="why")`` for a load at start or an audit; a better question.
"""

SCANS_ON_SQLITE = {
    "conductor.audit.records._ACTIONS",
    "conductor.audit.records._ALLOCATIONS",
    "conductor.audit.records._INDEX",
    "conductor.audit.records._INTENTS",
    "conductor.audit.records._QUOTAS",
    "conductor.audit.records._SERVERS",
    "db.queries.host_reports.SERVICES_OF_PROCESS",
    "db.queries.hypervisors.BY_NUMBER",
    "db.queries.hypervisors.ON_HOSTS",
    "db.queries.hypervisors.PAGE",
    "db.queries.hypervisors.USED",
    "db.queries.identity._TRIM",
    "db.queries.images.FILES",
    "db.queries.images.UNFINISHED",
    "db.queries.quota._COUNT",
    "db.queries.quota._COUNT_USER",
    "db.queries.services.BY_NUMBER",
    "db.queries.services.COMPUTE_FLAGS",
}

SCANS_ON_POSTGRESQL = {
    "conductor.audit.records._ALLOCATIONS",
    "conductor.audit.records._INDEX",
    "conductor.audit.records._QUOTAS",
    "conductor.audit.records._SERVERS",
    "db.queries.hypervisors.USED",
    "db.queries.identity._TRIM",
    "db.queries.images.FILES",
    "db.queries.images.UNFINISHED",
}

RESERVED_WORDS = {  # `binary` is one on PostgreSQL and MariaDB: that column needs another name
    "db.queries.host_columns.SERVICE_OF",
    "db.queries.host_reports.INSERT_SERVICE",
    "db.queries.host_reports.SERVICE",
    "db.queries.host_reports.SERVICES_OF_PROCESS",
    "db.queries.services.BY_NUMBER",
}
