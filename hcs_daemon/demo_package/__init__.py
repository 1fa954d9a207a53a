"""Makes the demonstration package: simulated plates, a small network that learns them, a card of what it can do.

    python -m hcs_daemon.demo_package --output hcs_daemon/device/demo

Everything follows from the seed: the cells, their order in training, the network's start. On another processor
floats add up otherwise, so the weights' digest may differ there; the card's figures stay within their intervals.
"""
