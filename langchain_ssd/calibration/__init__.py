"""From benign and unsafe answers of a pair to the monitor's weights and thresholds, and how well they do.

The way through: ``collect`` (rows of both models along the target's own answers) → ``traces`` (numbers, no
text) → ``fit`` (weights) → ``thresholds`` → ``report``; ``run`` does all of it.
"""
