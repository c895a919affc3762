"""The command line: its commands, a run as plain values, and what it asks of JAX."""
