"""The network: model packages, batching, inference, attribution and its checks. The only room that knows torch."""
