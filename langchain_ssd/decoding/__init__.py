"""The algorithm: two rows of probabilities in, one decision out.

Imports torch and nothing of ours, so that it can be read, tested and reused on its own.
"""
