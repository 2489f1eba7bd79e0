"""The command line's commands, one small file each; ``terminal`` and ``options`` hold what they share."""
