"""What this version can do, found out by trying it on a tiny pair."""

from functools import cache

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.constraint import Constraint
from langchain_ssd.engine.requests import open_sequence
from langchain_ssd.errors import InvalidRequest
from langchain_ssd.testing.tiny_pair import tiny_pair


@cache
def keeps_constraints() -> bool:
    """Whether the engine can hold an answer to a grammar."""
    asked = ChatRequest((ChatMessage("user", "q"),), constraint=Constraint("json_object"))
    try:
        open_sequence(tiny_pair(), "try", asked, 0.0)
    except InvalidRequest:
        return False
    return True
