"""The demonstration: a simulated screen, watched by the daemon as a real one would be."""
