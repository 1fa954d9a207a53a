"""The simulated instrument, and the replay of recorded plates.

`instrument.simulate_plate` writes a plate of made-up cells as an Opera Phenix would, `replay.replay` writes a recorded
folder again, `spoil` damages files on purpose. None of them sleeps by itself: the sleep is handed in.
"""
