"""Read facts out of a text, as a value of a class. A grammar keeps the form; a refusal is an error.

Needs the default pair, once: langchain-ssd setup
"""

from langchain_core.exceptions import ModelRefusalError, OutputParserException
from pydantic import BaseModel, Field

from langchain_ssd import ChatSSD

TEXT = (
    "Ada Lovelace was born in London in 1815 and wrote the first program for a machine that was never built."
)


class Person(BaseModel):
    """A person in a text."""

    name: str = Field(description="first and last name", max_length=40)
    year: int = Field(description="year of birth", ge=1000, le=2100)
    city: str = Field(description="place of birth", max_length=30)


def main() -> None:
    """Ask in two ways, and show what each makes of it."""
    with ChatSSD(max_tokens=80) as model:
        for method in ("json_schema", "function_calling"):
            reader = model.with_structured_output(Person, method=method)
            try:
                person = reader.invoke(f"Who is this text about?\n\n{TEXT}")
            except ModelRefusalError:
                print(f"{method}: the model would rather not")
            except OutputParserException as error:
                print(f"{method}: {error}")
            else:
                print(f"{method}: {person!r}")


if __name__ == "__main__":
    main()
