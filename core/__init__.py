"""The kernel: errors, clock, ids, canonical JSON and the database; knows nothing of audio, keys or law."""
