"""The finished model: Hugging Face format with a model card, or a PEFT adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import yaml

from trueup.errors import CheckpointError
from trueup.feedback.condition import Condition
from trueup.files import replaced_folder
from trueup.models import lora
from trueup.models.load import quiet
from trueup.words import reason

CARD = """---
{{ card_data }}
---

# {{ name }}

{% if report %}A reward model made of {{ base }} with{% else %}{{ base }} aligned with{% endif %} **{{ method }}** \
({{ title }}) by trueup {{ version }}.
{%- if paper %}

Method: {{ paper }}
{%- endif %}

    {{ formula }}

{% if condition -%}
## How to ask it

It was trained on prompts that say how good the response is. Write `{{ condition.words }}` at the
{{ condition.position }} of every prompt; trueup does so by itself, from `condition.json`.

{% endif -%}
{% if report -%}
## How to read it

It is a sequence classifier with one output, the score of the response that ends the text; higher is better. The level
of the scores means nothing, a difference of two scores of one prompt is the log-odds of one response being preferred.

## How right and how sure it is

{{ report }}
{% endif -%}
## Settings

```yaml
{{ settings }}```

## Feedback
{% for line in data %}
- {{ line }}
{%- endfor %}

## Result after {{ step }} steps
{% for key, value in metrics.items() %}
- {{ key }}: {{ value }}
{%- endfor %}
"""


def export(
    network: Any,
    tokenizer: Any,
    folder: Path,
    *,
    dtype: torch.dtype,
    card: Mapping[str, Any],
    condition: Condition | None = None,
    beside: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write model, tokenizer and card to `folder`, whole or not at all.

    Args:
        network: a transformers model, written in `dtype`; or a `PeftModel`, whose adapter alone is written.
        card: values of the model card's template.
        condition: what the model is to be asked with, kept beside its weights.
        beside: further files to keep there, name -> text.

    Raises:
        CheckpointError: it could not be written.
    """
    try:
        with replaced_folder(folder) as part:
            with quiet():
                if lora.is_adapted(network):
                    network.save_pretrained(str(part), selected_adapters=[lora.POLICY])
                else:
                    _save_model(network, part, dtype)
                tokenizer.save_pretrained(str(part))
            if condition is not None:
                condition.save(part)
            for name, text in beside.items():
                (part / name).write_text(text, encoding="utf-8")
            (part / "README.md").write_text(
                render_card(card, adapter=lora.is_adapted(network), condition=condition), encoding="utf-8"
            )
    except Exception as error:  # OSError, and SafetensorError for the same full disk
        why = reason(error)
        raise CheckpointError(
            f"{folder}: the finished model could not be written: {why}. The run's checkpoints are intact: make room "
            "and go on with --resume"
        ) from error


def _save_model(network: Any, folder: Path, dtype: torch.dtype) -> None:
    before = network.config.dtype
    state: dict[str, torch.Tensor] = {}
    cast: dict[tuple[Any, ...], torch.Tensor] = {}
    """By place in memory: tied weights stay one tensor, which is written once."""
    for name, tensor in network.state_dict().items():
        wanted = dtype if tensor.is_floating_point() else tensor.dtype
        state[name] = cast.setdefault((tensor.data_ptr(), tensor.shape), tensor.to(wanted))
    try:
        network.save_pretrained(str(folder), state_dict=state)
        network.config.dtype = str(dtype).removeprefix("torch.")  # the library wrote that of the parameters
        network.config.save_pretrained(str(folder))
    finally:
        network.config.dtype = before


def render_card(card: Mapping[str, Any], *, adapter: bool, condition: Condition | None = None) -> str:
    """The model card as Markdown with its metadata block."""
    from jinja2 import Environment, StrictUndefined

    data = {
        "library_name": "peft" if adapter else "transformers",
        "base_model": card["base"],
        "pipeline_tag": "text-classification" if card.get("report") else "text-generation",
        "tags": ["trueup", card["method"]],
    }
    template = Environment(undefined=StrictUndefined, autoescape=False).from_string(
        CARD
    )  # Markdown, not HTML
    asked = condition and {"words": condition.words(), "position": condition.position}
    return template.render(
        **{"report": "", **card}, condition=asked, card_data=yaml.safe_dump(data, sort_keys=False).strip()
    )
