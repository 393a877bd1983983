# The lab in two commands: `make lab` and `make test`.

PORT = 8888
IP = 127.0.0.1
SERVER = jupyterlab
PYTHON =
NOTEBOOKS =
SOAK =
LAB =
TITLE =

VENV = .venv/bin/python
WORKSPACE = .lab/workspaces/default-37a8.jupyterlab-workspace
PYTEST = -q -n 3 --dist loadfile --no-loadscope-reorder
NBVAL = --nbval --nbval-current-env --nbval-kernel-startup-timeout=60 --nbval-cell-timeout=600

# Hundreds of processes import the same modules: compiled once, not in each of them.
export PYTHONDONTWRITEBYTECODE =

help: ## this list
	@echo "make lab [PORT=8888] [BROWSER=no]   open the lab in JupyterLab"
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile | expand -t 36
	@echo "PYTHON=/path/to/python3.12 with any of them picks the interpreter (3.11 to 3.13)."

setup: ## install what requirements.lock lists into .venv; the others do it themselves
	@PYTHON="$(PYTHON)" sh tools/setup.sh

lab: setup
	@rm -f notebooks/rise.css; $(if $(STYLE),cp $(STYLE) notebooks)
	@"$(VENV)" tools/progress.py notebooks/course.md || true
	@mkdir -p $(dir $(WORKSPACE)); [ -e $(WORKSPACE) ] || cp jupyter/first_workspace.json $(WORKSPACE)
	@exec env JUPYTER_CONFIG_PATH="$(CURDIR)/jupyter$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH}" \
		"$(VENV)" -m $(SERVER) --ServerApp.ip=$(IP) --ServerApp.port=$(PORT) $(if $(filter no,$(BROWSER)),--no-browser)

present: setup ## the same with slides: a button over each notebook starts them, and cells run inside
	@"$(VENV)" -c 'import jupyterlab_rise' 2>/dev/null || "$(VENV)" -m pip install -q -e '.[slides]'
	@exec $(MAKE) lab STYLE=jupyter/rise.css

slides: setup ## write the notebooks as pages of slides to .lab/slides
	"$(VENV)" tools/slides.py

web: setup ## write the saved course as pages of a web site to .lab/web; a broken link ends it
	@"$(VENV)" -c 'import furo, myst_nb' 2>/dev/null || "$(VENV)" -m pip install -q -e '.[web]'
	@rm -rf .lab/web
	"$(VENV)" -m sphinx -q -E -n -W --keep-going -c docs -d .lab/web-cache . .lab/web
	@echo "Open .lab/web/index.html; a web server can show that folder as it is."

test: setup ## check the style and types, run the quick tests, and every notebook from the top
	"$(VENV)" -m ruff check .
	"$(VENV)" -m ruff format --check .
	"$(VENV)" -m mypy
	"$(VENV)" -m pytest $(PYTEST) -m "not long" $(NBVAL) tests notebooks

test-long: setup ## the longer checks: the browser, known answers, other servers, every slide, axe, a wheel, a new lab
	"$(VENV)" -m pytest $(PYTEST) -m long tests

test-all: test test-long ## both

soak: setup ## run all notebooks three times each beside 0, 4 and 16 busy loops; SOAK="--times 1 --pinned"
	"$(VENV)" tools/soak.py $(SOAK)

notebooks: setup ## run and save all notebooks, or NOTEBOOKS="notebooks/01_cache_aside.ipynb"
	"$(VENV)" tools/notebooks.py $(NOTEBOOKS)

bench: setup ## measure the labs' code and the libraries that one would use instead
	@for file in tests/explorer/benchmark.py tests/labs/*/benchmark.py; do "$(VENV)" "$$file" || exit 1; done

progress: setup ## which exercises you have passed, and what comes next
	@"$(VENV)" tools/progress.py

doctor: ## what is here, what is missing, and what to do about it
	@for python in "$(VENV)" $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11 python); do \
		if "$$python" -c 'import sys; assert (3, 11) <= sys.version_info[:2] <= (3, 13)' 2>/dev/null; \
		then exec "$$python" labsupport/doctor.py; fi; done; PYTHON="$(PYTHON)" sh tools/setup.sh

handout: setup ## write the notebooks without outputs and solutions to .lab/handout, for a class
	"$(VENV)" tools/handout.py

new: setup ## lay out a new lab: make new LAB=bloom_filter [TITLE="Bloom filter"]
	@"$(VENV)" tools/new_lab.py "$(LAB)" "$(TITLE)"

reset: ## put the notebooks and your progress back to the start (your notebooks are kept in .lab)
	@sh tools/reset.sh

lock: setup ## bring requirements.lock up to the ranges of pyproject.toml
	.venv/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --extra bench --extra lab --extra postgres \
		--extra setup --extra test --upgrade --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --quiet --output-file requirements.lock
	.venv/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --extra class --constraint requirements.lock \
		--upgrade --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --quiet --output-file jupyter/class.lock

.PHONY: help setup lab present slides web test test-long test-all soak notebooks bench doctor handout new progress reset lock
