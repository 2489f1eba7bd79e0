"""Two models, many conversations: the part of the worker that decodes. Never imports LangChain."""
