"""Tests by kind of evidence: unit, contract, flows, faults, abuse, acceptance."""
