"""An agent with two tools. Before a call is made, its own risk is looked at.

The embedded model is far too small to plan, so the first step names its tool; with a model of your own, leave
that out. Needs the default pair (langchain-ssd setup) and langchain (pip install 'langchain-ssd[agents]').
"""

from collections.abc import Callable

from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest, ModelResponse, wrap_model_call
from langchain_core.messages import AIMessage, ToolMessage

from langchain_ssd import ChatSSD

WEATHER = {"Paris": "sunny, 21 degrees", "London": "rain, 14 degrees"}


def get_weather(city: str) -> str:
    """Look up the weather of a city."""
    return WEATHER.get(city, "unknown")


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@wrap_model_call
def first_a_tool_then_words(
    request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]
) -> ModelResponse:
    """Demand a call while there is no result yet."""
    answered = any(isinstance(message, ToolMessage) for message in request.messages)
    response = handler(request.override(tool_choice="none" if answered else "get_weather"))
    for message in response.result:
        if isinstance(message, AIMessage):
            for risk in message.response_metadata["ssd"]["tool_calls"]:
                print(f"risk of {risk['name']}: mode {risk['mode']}, match ratio {risk['match_ratio']:.2f}")
    return response


def main() -> None:
    """Ask, and show every step."""
    with ChatSSD(max_tokens=60) as model:
        agent = create_agent(model, tools=[get_weather, add], middleware=[first_a_tool_then_words])
        state = agent.invoke({"messages": [("human", "What is the weather in Paris?")]})
    for message in state["messages"]:
        calls = [(call["name"], call["args"]) for call in getattr(message, "tool_calls", [])]
        print(f"{message.type}: {message.text!r}" + (f" calls {calls}" if calls else ""))


if __name__ == "__main__":
    main()
