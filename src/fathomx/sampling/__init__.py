"""Drawing from a network: tokens one after another."""
