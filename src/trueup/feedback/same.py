"""When two contents or two prompts are the same: to the letter."""

from trueup.feedback.records import Content, Example, Tools


def content_key(content: Content) -> object:
    """What can be looked up, and is equal for equal contents."""
    if isinstance(content, str):
        return content
    return tuple((message.role, message.content, repr(message.extra)) for message in content)


def prompt_key(example: Example) -> object:
    """What can be looked up, and is equal for equal prompts with the same tools."""
    return asked_key(example.prompt, example.tools)


def asked_key(prompt: Content, tools: Tools) -> object:
    """The `prompt_key` of examples with this prompt and these tools."""
    return (content_key(prompt), repr(tools))
