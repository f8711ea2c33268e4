"""A host is one file: with this profile alone, everything that is special about the host works."""

import json
import subprocess
import sys
from pathlib import Path

from dialgraph.project import ROOT

PROFILE = '''
"""Acme Voice."""

from dialgraph.profiles.profile import ActionForm, Evidence, Profile

PROFILE = Profile(
    name="host-of-a-test",
    evidence=(Evidence(body=("acme.call",)),),
    call_places={"id": ("body.acme.call",), "caller_number": ("body.acme.from",), "source": ("body.acme.why",)},
    private_fields=("acme",),
    turn_sources={"nobody_spoke": "silence"},
    interruption_tag="[cut]",
    hangup=ActionForm("acme_goodbye"),
)
'''
SCRIPT = """
import json, sys
import dialgraph.profiles

dialgraph.profiles.__path__.append(sys.argv[1])

from dialgraph.profiles.together import tools_for, turn_source
from dialgraph.turn.upstream_messages import upstream_messages
from server.protocols.chat_completions.request import read_request

body = {
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "We open at [cut]"},
        {"role": "user", "content": "when?"},
    ],
    "acme": {"call": "c-1", "from": "+15550100", "why": "nobody_spoke"},
    "temperature": 0.5,
}
read = read_request(body, {}, {})
print(json.dumps({
    "profile": read.profile.name,
    "call": [read.call.id, read.call.caller_number, turn_source(read.call.source), read.call.interrupted],
    "upstream": read.parameters,
    "messages": [message["content"] for message in upstream_messages(read.messages)],
    "hangup": "acme_goodbye" in tools_for("hangup"),
}))
"""


def test_a_new_host_needs_only_one_file_in_profiles(tmp_path: Path) -> None:
    (tmp_path / "host_of_a_test.py").write_text(PROFILE)
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "profile": "host-of-a-test",
        "call": ["c-1", "+15550100", "silence", "We open at"],
        "upstream": {"temperature": 0.5},
        "messages": ["hi", "We open at", "when?"],
        "hangup": True,
    }
