"""Where sealed objects lie; each store answers to ``vault.ports.ObjectStore``."""
