"""Doubles for your own tests: no models, no processes, no waiting.

``ScriptedBackend`` answers from a script and remembers what it was asked::

    from langchain_ssd import ChatSSD
    from langchain_ssd.testing import ScriptedBackend, answer, refusal

    backend = ScriptedBackend("Hello!", refusal("I can't help with that.", after="Sure, "))
    model = ChatSSD(backend=backend)
    assert model.invoke("Hi").text == "Hello!"
    assert model.invoke("Hi again").response_metadata["finish_reason"] == "refusal"
    assert backend.requests[0].messages[-1].content == "Hi"
"""

from .scripted import ScriptedBackend, answer, failure, refusal, tool_call, tool_calls

__all__ = ["ScriptedBackend", "answer", "failure", "refusal", "tool_call", "tool_calls"]
