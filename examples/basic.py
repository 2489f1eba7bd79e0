"""Ask one question, then read what the decoding says about its own answer.

Needs the default pair, once: langchain-ssd setup
"""

from langchain_ssd import ChatSSD


def main() -> None:
    """Ask and report."""
    with ChatSSD(max_tokens=48) as model:
        answer = model.invoke("Why is the sky blue?")

    print(answer.text)
    ssd = answer.response_metadata["ssd"]
    print(f"\nfinish reason: {answer.response_metadata['finish_reason']}")
    print(f"match ratio:   {ssd['match_ratio']:.2f}   (how often both models wanted the same token)")
    print(f"acceptance:    {ssd['acceptance_rate']:.2f}   (how many of the draft's proposals were kept)")
    print(f"safety tokens: {ssd['safety_tokens']} of {ssd['emitted']}")
    print(f"usage:         {answer.usage_metadata}")


if __name__ == "__main__":
    main()
