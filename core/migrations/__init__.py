"""Numbered migrations of the database schema; they use ``op`` alone and import nothing of ours.

A migration that has been released never changes: the tables in ``*/tables.py`` may move on, what
an old database went through stays readable here.
"""
