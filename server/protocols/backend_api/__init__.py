"""The routes of system 003 (`llm-backend-api`), as its documentation has them: `/api/…`."""
