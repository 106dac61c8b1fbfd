# make demo   set up, train a label-guided flow on real handwritten digits, draw the result
# make test   set up, lint, check imports and types, run the quick tests
# make test-full  the rest: drift of notebooks from their sources, all notebooks, all banks, killed runs, peers
# make lab    open the lectures and exercises in JupyterLab
# make notebooks  build the notebooks whose sources have changed; lectures are executed
# make mutants    try wrong and right answers on the exercises' checks, and planted mistakes on the lectures' asserts
# make hostile  try all hostile submissions on the grader; fifty of them are in make test
# make bench  install published libraries and compare with them: errors, speed, overhead
# make site   build the site, which needs no network, in site/; REPOSITORY=https://... adds launch buttons
# make test-site  look at the site in a real browser, chromium, where one is installed
#
# PYTHON picks the interpreter (3.11 or newer), VENV the place of the environment.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-full lint types check drift full lab notebooks hostile mutants peers bench site test-site clean

help:
	@grep '^# make' Makefile | sed 's/^# //'

# Rebuilt only when what it installs changes. Building the package itself needs setuptools alone, so that no second
# copy of anything large is fetched for it.
$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "flowlib needs Python 3.11 or newer; say which with make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[course,test]'
	@touch $@

demo: $(VENV)/ready
	$(BIN)/flowlib demo

test: lint types check

test-full: drift full

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/ready
	$(BIN)/mypy

# One thread a process: two test processes with two threads each would fight over two cores. Tests of one file stay
# together for the sake of what they share, except for notebooks (tests/conftest.py).
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -rfEs

check: $(VENV)/ready
	$(PYTEST)

drift: $(VENV)/ready
	$(BIN)/flowlib course build --check

full: $(VENV)/ready
	$(PYTEST) -m full

lab: $(VENV)/ready
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/lectures

notebooks: $(VENV)/ready
	$(BIN)/flowlib course build

hostile: $(VENV)/ready
	FLOWLIB_HOSTILE_ALL=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m full tests/course/test_hostile.py

mutants: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/flowlib course bank --jobs $(JOBS)

# The published libraries that the benchmarks and tests/peers compare with. torchcfm asks for torchdyn, and through it
# for lightning, which nothing here uses; so its requirements are left out, except for POT, which it imports at once.
# denoising-diffusion-pytorch asks for torchvision; the one module that is used does not.
peers: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  flow-matching==1.0.10 torchcfm==1.0.7 pot==0.9.7.post1 denoising-diffusion-pytorch==2.3.4

bench: peers
	$(BIN)/python benchmarks/samplers.py --figure docs/samplers.png
	$(BIN)/python benchmarks/unet_speed.py
	$(BIN)/python benchmarks/overhead.py

# Sphinx and what the site's pages load: pinned by constraints.txt and package-lock.json, fetched once.
$(VENV)/site-ready: $(VENV)/ready docs/play/package-lock.json
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[course,test,site]'
	if command -v npm >/dev/null; then npm ci --prefix docs/play --ignore-scripts --silent; fi
	@touch $@

# The address of the repository, for launch buttons and links to the source; none without one.
REPOSITORY ?=
SPHINX = REPOSITORY=$(REPOSITORY) $(BIN)/python -m sphinx -W --keep-going -q -c docs/sphinx -d docs/_build/doctrees

site: $(VENV)/site-ready
	$(BIN)/python docs/sphinx/stage.py docs/_build/source
	$(SPHINX) docs/_build/source docs/_build/html
	rm -rf site
	cp -r docs/_build/html site
	$(BIN)/python docs/sphinx/links.py site

test-site: site
	$(PYTEST) tests/site -m '' -n 0

clean:
	rm -rf site docs/_build docs/play/node_modules $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
