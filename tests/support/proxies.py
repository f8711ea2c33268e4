"""Real proxies and a plain TCP tunnel in front of a server, in their default configurations."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr; events {{}}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    {server}
  }}
}}
"""
BARE = {
    "nginx": "location / {{ proxy_pass http://127.0.0.1:{target}; }}",
    "haproxy": """
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen dialgraph
  bind 127.0.0.1:{port}
  server one 127.0.0.1:{target}
""",
    "caddy": """
{{
  admin off
  auto_https off
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{target}
}}
""",
}


@asynccontextmanager
async def in_front(program: str, target: int, folder: Path, config: str = "") -> AsyncIterator[int]:
    """Start the program in front of the port `target`. Yield the port that it listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    file = folder / f"{program}.conf"
    text = (config or BARE.get(program, "")).format(port=port, target=target, folder=folder)
    if program == "nginx":
        text = NGINX.format(port=port, folder=folder, server=text)
    file.write_text(text)
    command = {
        "nginx": ["nginx", "-p", str(folder), "-c", str(file)],
        "haproxy": ["haproxy", "-db", "-f", str(file)],
        "caddy": ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"],
        "tunnel": ["socat", f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr", f"TCP:127.0.0.1:{target}"],
    }[program]
    found = shutil.which(command[0], path="/usr/sbin:/usr/bin:/usr/local/bin:/sbin:/bin")
    assert found is not None, f"{command[0]} is missing: `make debian` installs it"
    home = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    process = await asyncio.create_subprocess_exec(
        found, *command[1:], stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        env={**home, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    try:
        await _listening(port, process)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _listening(port: int, process: asyncio.subprocess.Process) -> None:
    for _ in range(1000):
        assert process.returncode is None, "the proxy has ended"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise AssertionError("the proxy does not listen on its port")
