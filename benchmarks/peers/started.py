"""Starts the other servers, each in the environment that `make peers` installed for it."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).parent
VENV = HERE.parent.parent / ".venv"
_NGINX = """\
daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream model {{ server {upstream}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
_LITELLM = """\
model_list:
  - model_name: bench
    litellm_params: {{ model: openai/bench, api_base: "{upstream}/v1", api_key: none }}
"""


_ENVIRONMENT = {
    "HAYSTACK_TELEMETRY_ENABLED": "false",
    "REPEATED_STREAMING_CHUNK_LIMIT": "1000000",  # else LiteLLM ends an answer that repeats a word a hundred times
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # on this machine only
}


@dataclass(frozen=True)
class Peer:
    """One of the other servers, and the command that starts it."""

    name: str
    path: str
    model: str
    command: tuple[str, ...]
    installed: Path
    """This path exists if the server is installed."""


def _peers(port: int, folder: str) -> list[Peer]:
    at = str(port)
    hayhooks, serve, litellm = (VENV / name for name in ("hayhooks", "langgraph-openai-serve", "litellm-proxy"))
    ours = VENV / "bin" / "python"
    return [
        Peer("nginx, proxy_pass", "/chat/completions", "bench", ("/usr/sbin/nginx", "-c", f"{folder}/nginx.conf"),
             Path("/usr/sbin/nginx")),
        Peer("Hayhooks", "/v1/chat/completions", "chat",
             (f"{hayhooks}/bin/hayhooks", "run", "--port", at, "--pipelines-dir", str(HERE / "hayhooks")),
             hayhooks / "installed"),
        Peer("LangGraph + ChatOpenAI", "/chat/completions", "bench",
             (str(ours), "-m", "benchmarks.peers.chat_openai", at), ours),
        Peer("langgraph-openai-serve", "/v1/chat/completions", "chat",
             (f"{serve}/bin/python", str(HERE / "langgraph_openai_serve_app.py"), at), serve / "installed"),
        Peer("LiteLLM proxy", "/v1/chat/completions", "bench",
             (f"{litellm}/bin/litellm", "--config", f"{folder}/litellm.yaml", "--port", at, "--host", "127.0.0.1"),
             litellm / "installed"),
    ]  # fmt: skip


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def started_peers(upstream: str) -> Iterator[list[tuple[Peer, str, psutil.Process]]]:
    """Start all of them. Yield each with its URL and its process. Raise FileNotFoundError if one is not installed."""
    with ExitStack() as stack:
        found = []
        for at in range(len(_peers(0, ""))):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            port = _free_port()
            peer = _peers(port, folder)[at]
            if not peer.installed.exists():
                raise FileNotFoundError(f"{peer.name} is not installed. Run `make peers`.")
            host = upstream.removeprefix("http://")
            Path(folder, "nginx.conf").write_text(_NGINX.format(folder=folder, port=port, upstream=host))
            Path(folder, "litellm.yaml").write_text(_LITELLM.format(upstream=upstream))
            process = subprocess.Popen(
                peer.command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT, "UPSTREAM": upstream},
                cwd=HERE.parent.parent,
            )
            stack.callback(_stop, process)
            found.append((peer, f"http://127.0.0.1:{port}", psutil.Process(process.pid)))
        yield found


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
