# The recipe itself is bootstrap.py, which also runs where there is no make.
PYTHON ?= python3

.PHONY: demo test install bench wheelhouse

demo test install bench wheelhouse:
	@$(PYTHON) bootstrap.py $@
