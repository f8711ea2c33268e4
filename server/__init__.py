"""The HTTP server and the command line. No other package knows HTTP."""
