"""The worker room: one child process that holds the models, and the parent's side of it."""
