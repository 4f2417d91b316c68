"""The databases: tables, queries by aggregate, and one small executor over SQLite, PostgreSQL and MariaDB."""
