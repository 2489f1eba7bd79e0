"""ChatSSD in a chain: a prompt, the model, a parser; several inputs are decoded in one batch.

Needs the default pair, once: langchain-ssd setup
"""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_ssd import ChatSSD

PROMPT = ChatPromptTemplate.from_messages(
    [("system", "You answer in one short sentence."), ("human", "What is {thing} used for?")]
)


def main() -> None:
    """Run one chain on three inputs at once."""
    things = ["a compass", "a thermometer", "a sieve"]
    # lock_safety: whoever gets the chain cannot weaken the model by binding other settings.
    with ChatSSD(max_tokens=32, lock_safety=True) as model:
        chain = PROMPT | model | StrOutputParser()
        answers = chain.batch([{"thing": thing} for thing in things])
    for thing, answer in zip(things, answers, strict=True):
        print(f"{thing}: {answer}")


if __name__ == "__main__":
    main()
