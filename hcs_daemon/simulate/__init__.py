"""The simulated instrument, and the replay of recorded plates."""
