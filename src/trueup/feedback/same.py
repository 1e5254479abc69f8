"""When two contents or two prompts are the same: to the letter."""

from trueup.feedback.records import Content, Example


def content_key(content: Content) -> object:
    """What can be looked up, and is equal for equal contents."""
    if isinstance(content, str):
        return content
    return tuple((message.role, message.content, repr(message.extra)) for message in content)


def prompt_key(example: Example) -> object:
    """What can be looked up, and is equal for equal prompts with the same tools."""
    return (content_key(example.prompt), repr(example.tools))
