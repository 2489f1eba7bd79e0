"""The client: the backend behind ``ChatSSD(base_url=...)``."""
