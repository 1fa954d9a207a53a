"""hcs-daemon: checks, analyses and explains what a screening microscope writes, as it writes it."""

from importlib.metadata import version

__version__ = version("hcs-daemon")
