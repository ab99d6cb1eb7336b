# Each target makes its own virtual environment with all that it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test test-slow lint environment test-environment clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 20

demo: environment  ## play a sequence to the real node and write gcnv2_demo/index.html
	$(BIN)/gcnv2 demo --out gcnv2_demo

test: test-environment lint  ## ruff, mypy and the tests
	$(BIN)/python -m pytest -m "not slow"

test-slow: test-environment  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: test-environment  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

environment: $(VENV)/.environment  ## a virtual environment with the package, torch and the ROS 2 wheels
test-environment: $(VENV)/.test-environment

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip setuptools wheel

# torch goes first and by its exact version: left to the resolver, a range takes a build with gigabytes of CUDA.
$(VENV)/.environment: setup.py package.xml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) torch==2.13.0
	$(PIP_INSTALL) --no-build-isolation --editable ".[ros,room,openvino,numba]"
	touch $@

$(VENV)/.test-environment: $(VENV)/.environment
	$(PIP_INSTALL) --no-build-isolation --editable ".[ros,room,onnx,openvino,numba,train,evaluate,odometry,colmap,view,test]"
	touch $@

clean:  ## remove the virtual environment and what builds leave behind
	rm -rf $(VENV) build install log dist *.egg-info gcnv2_demo
