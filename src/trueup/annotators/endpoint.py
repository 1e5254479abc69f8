"""The annotator that asks a language model behind an endpoint."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from trueup.annotators.budget import Budget
from trueup.annotators.cache import JudgementCache
from trueup.annotators.comparing import ComparingAnnotator
from trueup.annotators.endpoint_judge import EndpointJudge
from trueup.annotators.templates import load_template
from trueup.endpoints.client import Endpoint
from trueup.endpoints.key import Key
from trueup.errors import InputError
from trueup.paths import cache_folder
from trueup.settings.annotator_settings import EndpointAnnotator


def load_endpoint_annotator(choice: EndpointAnnotator) -> ComparingAnnotator:
    """The annotator that a choice describes; nothing is asked before there is something to judge.

    Its `judge.budget` says what was spent, and takes it back when a run is resumed.

    Raises:
        InputError: the template, the budget, the key's environment variable or the folder of the cache cannot be used.
    """
    template = load_template(choice.template)
    budget = Budget(
        choice.max_requests, choice.max_tokens, choice.max_cost, choice.input_price, choice.output_price
    )
    endpoint = connect(choice)
    cache = JudgementCache(cache_folder() / "judgements" / "judgements.sqlite") if choice.cache else None
    judge = EndpointJudge(endpoint, choice, cache=cache, budget=budget)
    return ComparingAnnotator(
        judge, template, instruction=choice.instruction, max_unreadable=choice.max_unreadable
    )


def connect(choice: EndpointAnnotator) -> Endpoint:
    """The endpoint that a choice names; nothing is sent yet.

    Raises:
        InputError: the environment variable of the key is not set, and the endpoint is not on this machine.
    """
    key = Key.from_environment(choice.key_variable)
    if not key and not _on_this_machine(choice.base_url):
        raise InputError(
            f"annotator.base_url {choice.base_url}: the environment variable {choice.key_variable} is not set; export "
            "the endpoint's key under that name (any text where it wants none), or give annotator.key_variable"
        )
    return Endpoint(
        choice.base_url,
        key=key,
        timeout=choice.timeout,
        deadline=choice.deadline,
        concurrency=choice.concurrency,
    )


def _on_this_machine(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
