# `make` sets everything up, `make test` tests, `make demo` shows the whole way from raw slices to Dice.
# Variables: PYTHON, and for the demo RAW, OUT, SCANS, EPOCHS, IMAGE_SIZE, BATCH_SIZE, PROCESSES.

.DEFAULT_GOAL := setup
.SUFFIXES:
.PHONY: setup preflight check test test-browser test-spark35 rehearsal lint format docs demo audit requirements clean distclean

PYTHON ?=
OUT ?= demo-out

VENV := .venv
BIN := $(VENV)/bin
# Stamps live inside the environment, so that they vanish with it.
STAMPS := $(VENV)/stamps
# Images of machines for builds often set it; compiling torch's modules anew would take seconds of every process.
export PYTHONDONTWRITEBYTECODE :=
UV := VIRTUAL_ENV=$(VENV) $(BIN)/uv
# Progress bars are for terminals; a log gets plain lines.
QUIET := $(shell test -t 2 || echo --quiet)

setup: $(STAMPS)/connector

# Always run, never a reason to set up again.
preflight:
	@sh scripts/preflight.sh $(PYTHON)

$(STAMPS)/tools: requirements/uv.txt | preflight
	@echo "setup: Python environment in $(VENV)"
	@"$$(sh scripts/preflight.sh --which $(PYTHON))" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@mkdir -p $(STAMPS) && touch $@

# An installation that was cut off leaves its mark, and the next one starts over.
$(STAMPS)/packages: requirements/all.txt $(STAMPS)/tools
	@echo "setup: pinned packages, about 5 GB; minutes when they are fetched for the first time"
	@again=$$(test ! -e $(STAMPS)/installing || echo --reinstall); touch $(STAMPS)/installing; \
	$(UV) pip install $(QUIET) $$again --no-deps --require-hashes -r requirements/all.txt
	@rm -f $(STAMPS)/installing && touch $@

$(STAMPS)/slicemill: pyproject.toml $(STAMPS)/packages
	@echo "setup: slicemill itself"
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/connector: src/slicemill/spark/connector.py src/slicemill/spark/connector_sums.txt $(STAMPS)/slicemill
	@echo "setup: Spark's S3 connector"
	@$(BIN)/python -m slicemill.spark.connector
	@touch $@

# Two test files at a time, each as a whole: their tests share lakes and trainings.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Before every commit: lint, types and the tests that need neither Spark nor a browser nor a training.
check: lint
	@$(PYTEST) -q -m "not slow and not spark and not browser" $(FAST)

FAST := tests/core tests/io tests/emr tests/scripts

# ARGS goes to pytest: make test ARGS="tests/core -x"
test: setup
	@$(PYTEST) -m "not browser" $(ARGS)

# The report in Chromium, which root may install here; SLICEMILL_TEST_BROWSER names another.
test-browser: setup
	@sh scripts/browser.sh
	@$(BIN)/python -m pytest -m browser tests/pages $(ARGS)

# The jobs on Spark 3.5, which emr-7.13.0 has; ARGS as for test.
test-spark35: setup
	@scripts/spark35.sh $(ARGS)

# EMR on this machine: a YARN of two nodes, S3 that asks for each job's role, our steps word for word, and nights.
# ARCHIVE: a packed environment; without it one whose packages stay in .venv.
rehearsal: setup
	@scripts/yarn-local.sh build/yarn $(CURDIR)/$(BIN)/python scripts/rehearsal/rehearse.py build/yarn \
	$(if $(ARCHIVE),--archive $(ARCHIVE)) $(if $(MODES),--modes $(MODES))

lint: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy --num-workers 2
	@$(BIN)/lint-imports
	@$(BIN)/cfn-lint emr/cloudformation/*.yaml
	@PATH="$(CURDIR)/$(BIN):$$PATH" shellcheck emr/*/*.sh scripts/*.sh .ci/run

format: setup
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

# The documentation as a site in site/; pages in docs/reference and docs/storage.md are rendered from the code.
docs: setup
	@$(BIN)/python scripts/reference.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

demo: setup
	@RAW="$(RAW)" OUT="$(OUT)" SCANS="$(SCANS)" EPOCHS="$(EPOCHS)" IMAGE_SIZE="$(IMAGE_SIZE)" \
	BATCH_SIZE="$(BATCH_SIZE)" PROCESSES="$(PROCESSES)" $(BIN)/python scripts/demo.py

# Not in a cluster's environment, or installed into it in the build that fits its nodes.
CLUSTER_BRINGS := pyspark py4j
TORCH_BRINGS := torch torchvision triton cuda-bindings cuda-pathfinder cuda-toolkit \
	nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand \
	nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx

# Known vulnerabilities of the pins. Asks the package index about each, so it runs where that is allowed.
audit: setup
	@$(BIN)/uv tool run pip-audit==2.10.1 --strict --no-deps --disable-pip --requirement requirements/all.txt

# One set of pins for every Python that pyproject.toml allows.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-emit-index-url --custom-compile-command "make requirements"

# Keeps the pins that still fit; delete requirements/all.txt first to take everything anew.
# A tool pin that stays as it was keeps its time too: a new one would build the environment anew.
requirements: $(STAMPS)/tools
	@cp -p requirements/uv.txt $(VENV)/uv.before
	@$(COMPILE) requirements/uv.in -o requirements/uv.txt
	@if cmp -s requirements/uv.txt $(VENV)/uv.before; then touch -r $(VENV)/uv.before requirements/uv.txt; fi
	@$(COMPILE) pyproject.toml requirements/build.in --overrides requirements/overrides.in --all-extras \
	-o requirements/all.txt
	@$(COMPILE) pyproject.toml --overrides requirements/overrides.in \
	--extra train --extra onnx --extra sweep --extra aws --extra report --extra nifti --extra survival \
	--constraints requirements/all.txt --no-annotate \
	$(addprefix --no-emit-package ,$(CLUSTER_BRINGS) $(TORCH_BRINGS)) -o requirements/emr.txt
	@$(COMPILE) requirements/spark35.in --no-annotate -o requirements/spark35.txt

clean:
	rm -rf demo-out site build dist spark-warehouse .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests jobs scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) .venv-spark35
