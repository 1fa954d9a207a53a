"""What each command of the program does: one module a command, called by `__main__` and nobody else."""
