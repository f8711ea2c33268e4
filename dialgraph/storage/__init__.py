"""The database, its migrations and the shared cache. Other folders have their own tables in the database."""
