"""Where epoch keys live, chosen by URI scheme; each provider answers to ``keys.ports.KeyProvider``."""
