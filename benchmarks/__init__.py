"""Side-by-side runs, one command each: ``python -m benchmarks NAME``. The docs quote no other figures."""
