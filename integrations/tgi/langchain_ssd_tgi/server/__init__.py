"""The server: an ASGI application over a backend, and the program that runs it."""
