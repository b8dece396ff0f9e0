"""The tamper-evident record of access: sealed entries, an RFC 6962 tree, signed checkpoints."""
