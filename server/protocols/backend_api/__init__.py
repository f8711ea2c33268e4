"""The routes `/api/…` of system 003 (`llm-backend-api`), as its documentation defines them."""
