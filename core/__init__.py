"""The kernel: errors, clock, ids, canonical JSON, database; knows no audio, keys or law."""
