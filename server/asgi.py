"""The only app that is made at import: for `langgraph dev`, uvicorn and granian."""

from server.app import create_app
from server.logs import set_up_logging
from server.settings import load_settings

settings = load_settings()
set_up_logging(settings.log_level)
app = create_app(settings)
