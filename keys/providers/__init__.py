"""Where epoch keys live, by URI scheme; each provider answers to ``keys.ports.KeyProvider``."""
