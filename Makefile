# Moxie. `make` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
REPORTS ?= reports
PYTEST_ARGS ?= -q -n auto --dist loadgroup
MAIN := scenarios/lose-the-holder
# Real servers one after the other: two ensembles and two storage clusters at once are more than two cores can time.
REAL_ARGS ?= -q --durations 15
LAB_ARGS ?=
# What the real servers under test come from; on Debian, `make test` installs what is missing when it is root.
DEBIAN := zookeeper ceph-mon ceph-mgr ceph-mgr-modules-core ceph-osd ceph-common ceph-base python3-rados python3-rbd \
	qemu-utils qemu-block-extra qemu-system-common fuse3 e2fsprogs openipmi iproute2 nftables dbus util-linux procps \
	qemu-system-x86 ipxe ipxe-qemu ovmf dnsmasq-base ipmitool mmdebstrap squashfs-tools busybox-static cpio lz4 zstd kmod socat \
	fdisk dosfstools mtools grub-common grub-pc-bin grub-efi-amd64-bin

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick packages swarm nightly lab lab-machines fidelity model check fmt golden bench docs notebooks wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with the pinned versions (again only when the pins change)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Moxie needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory venv-package
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "creating $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "installing the pinned versions"
	@$(BIN)/python -m pip install -qq --no-deps -r requirements.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check -qq
	@touch $@

.PHONY: venv-package
venv-package:
	@test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		|| { echo "Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@echo "installing python3-venv"
	@apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null

demo: setup ## a rack loses the node that holds its database: timeline, verdict and a report with pictures
	@$(BIN)/twin run $(MAIN) --report $(REPORTS)/lose-the-holder
	@echo "report: $(REPORTS)/lose-the-holder/index.html"

test: setup packages ## all tests; on Debian, as root, with real servers
	@$(BIN)/python -m pytest $(PYTEST_ARGS) -m "not real"
	@$(BIN)/python -m pytest $(REAL_ARGS) -m "real and not hard and not machines"

packages: ## install the Debian packages that real servers need (as root on Debian; otherwise nothing)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		missing=$$(for p in $(DEBIAN); do dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
		if [ -n "$$missing" ]; then \
			echo "installing" $$missing; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
		fi; \
	fi

# JOBS=4 or ENGINE=dask://host:8786 say where campaigns run; SEEDS=10001..20000 which ones a night has.
SWARM = $(BIN)/twin swarm --report $(REPORTS)/$@ --junit $(REPORTS)/$@/junit.xml --failures $(REPORTS)/$@/failures \
	$(if $(JOBS),--jobs $(JOBS)) $(if $(ENGINE),--engine $(ENGINE))
SEEDS ?= 1..10000

swarm: setup ## two minutes of drawn failure campaigns: report, JUnit, and a tape for each failure
	@$(SWARM) --profile everything --for 2m

nightly: setup ## ten thousand drawn failure campaigns of everything
	@$(SWARM) --profile everything --seeds $(SEEDS)

lab: setup packages ## lost disks, broken agents, and every scenario with a real counterpart, on real servers (root; about an hour)
	@$(BIN)/python -m pytest $(REAL_ARGS) -m hard
	@$(BIN)/rack lab run --all --json $(LAB_ARGS)

lab-machines: setup packages ## a rack of emulated machines: dark to joined, killed, replaced, upgraded (root; about half an hour)
	@$(BIN)/python -m pytest $(REAL_ARGS) -m machines tests/real

quick: setup ## unit and tidy tests only
	@$(BIN)/python -m pytest -q tests/unit tests/tidy

# Twelve scenarios that move the database in both worlds; every other one, in order of their names, is fitted to, the rest is judged.
FIDELITY := agent-never-returns bmc-dead drain frozen-agent frozen-holder holder-cut-from-storage \
	holder-cut-from-zookeeper lose-the-holder lost-link operating-system-panic power-loss-proven session-expiry
REPEAT ?= 10
MEASURED := $(REPORTS)/fidelity/measured.jsonl

fidelity: setup $(MEASURED) ## the twin's failover times beside measured ones (measures first, if there is nothing yet: root, about two hours)
	@$(BIN)/twin fit $(MEASURED) --half odd --out $(REPORTS)/fidelity/fitted.toml
	@rm -f $(REPORTS)/fidelity/predicted.jsonl
	@for name in $(FIDELITY); do for seed in $$(seq 1 $(REPEAT)); do \
		$(BIN)/twin run scenarios/$$name --seed $$seed --calibration $(REPORTS)/fidelity/fitted.toml --json \
			>> $(REPORTS)/fidelity/predicted.jsonl || test $$? -ge 3 || exit 2; done; done
	@$(BIN)/twin compare $(REPORTS)/fidelity/predicted.jsonl $(MEASURED) --half even --html docs/gallery/fidelity.html

$(MEASURED): | setup packages
	@mkdir -p $(@D)
	@rm -f $@.part
	@for name in $(FIDELITY); do echo "measuring $$name"; \
		$(BIN)/rack lab run $$name --repeat $(REPEAT) --json >> $@.part || test $$? -ge 3 || exit 2; done
	@mv $@.part $@

model: setup ## the exploration of two machines, deeper than in `make test` (about an hour)
	@MODEL_STATES=$${MODEL_STATES:-300000} MODEL_SECONDS=$${MODEL_SECONDS:-600} \
		$(BIN)/python -m pytest -q -n auto tests/model

check: setup ## ruff, mypy, import-linter and the house rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "run 'make fmt'" >&2; exit 1; }
	@$(BIN)/mypy
	@out=$$($(BIN)/lint-imports --no-cache) || { echo "$$out" >&2; exit 1; }
	@$(BIN)/python -m pytest -q tests/tidy

fmt: setup ## format and sort imports
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .

golden: setup ## compare with the recorded expectations; REWRITE=1 records them anew (read the diff)
	@REWRITE=$(REWRITE) $(BIN)/python -m pytest -q -n auto --dist loadgroup tests/golden

bench: setup ## measured figures with their targets beside
	@$(BIN)/python -m bench

docs: setup ## write docs/generated from the tables in the code
	@$(BIN)/python -m docs.generate

notebooks: setup ## run the notebooks and write what they show to docs/gallery
	@$(BIN)/python -m docs.notebooks

wheel: setup ## build the wheel into dist/
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

clean: ## remove everything that was built or reported
	@rm -rf $(VENV) build dist *.egg-info $(REPORTS) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
