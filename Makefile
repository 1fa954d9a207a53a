# The recipe itself is bootstrap.py, which also runs where there is no make.
PYTHON ?= python3

.PHONY: demo test install bench

demo test install bench:
	@$(PYTHON) bootstrap.py $@
