"""A scripted model that does what standard tests ask of a good one: it calls, fills in schemas, or talks."""

import json
import re

from langchain_ssd.testing import answer, tool_call

HELLO = answer("Hello! How can I help you today?", thinking="A greeting.")


def sensible(request):
    """A call where one is demanded or would help, JSON where a form is asked for, else a greeting."""
    asked = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
    fresh = request.messages[-1].role == "user"
    if request.tools and request.tool_choice != "none" and (fresh or request.tool_choice != "auto"):
        named = [t["function"] for t in request.tools if t["function"]["name"] == request.tool_choice]
        function = (named or [request.tools[0]["function"]])[0]
        return tool_call(function["name"], filled_in(function["parameters"], asked))
    if request.constraint is None:
        return HELLO
    schema = request.constraint.value or {"properties": {key: {} for key in quoted(asked)}}
    return answer(json.dumps(filled_in(schema, asked), ensure_ascii=False))


def filled_in(schema, asked):
    """An object of a schema, with what can be found in the question."""
    number = re.search(r"\((\d+)\)", asked)
    text = next(iter(quoted(asked)), "San Francisco, CA")
    whole = {"integer": int(number[1]) if number else 1, "boolean": True}
    return {name: whole.get(of.get("type"), text) for name, of in schema.get("properties", {}).items()}


def quoted(text):
    """Words in quotes."""
    return re.findall(r"'([^']+)'", text)
