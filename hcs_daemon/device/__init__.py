"""The network: model packages, batching, inference, attribution and its checks. The only room that knows torch."""

import os

# torch's threads wait for each other after every layer, by default spinning. Beside an instrument's own software that
# burns the cores it waits for: the same explanation took fifteen times the processor time. Read once, when torch loads.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
