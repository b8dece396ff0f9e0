"""The tamper-evident record of access: sealed entries in an RFC 6962 tree with signed checkpoints."""
