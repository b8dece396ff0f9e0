"""Recordings: how they are deposited, sealed, found, heard and recorded in the ledger."""
