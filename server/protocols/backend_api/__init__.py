"""The routes `/api/…` of `llm-backend-api`, as its documentation defines them."""
