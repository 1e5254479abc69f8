"""What `trueup sample` and `trueup annotate` are told: plain values, nothing here loads a model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from trueup.settings.annotator_settings import ANNOTATORS, AnnotatorChoice, EndpointAnnotator
from trueup.settings.sampler_settings import SamplerSettings
from trueup.settings.schema import SAME_RESULT, STRICT, Amount, Count, Named, Role, Text, Texts

Device = Literal["auto", "cpu", "cuda"]
EXAMPLES = Role(affects="examples")


class SampleSettings(BaseModel):
    """What to sample, from whom, and what becomes of it."""

    model_config = STRICT

    model: Annotated[Texts, Role("What to sample")] = ()
    """Folder of a model or PEFT adapter that writes responses; or world, the built-in one."""
    data: Annotated[Texts, EXAMPLES] = ()
    """Files with prompts, or with feedback on prompts; hub:OWNER/NAME; or world:prompts, world:pairs, ..."""
    output: Annotated[Text, SAME_RESULT]
    """A .jsonl or .jsonl.gz file for the candidates."""
    count: Annotated[Count | None, EXAMPLES] = None
    """Ask the first prompts only, this many."""
    merge: bool = True
    """Keep the responses the data have already, with what is said of them, beside the new ones."""
    seed: Amount = 0
    """Seed of all that is drawn."""
    skip_bad: Annotated[Amount, EXAMPLES] = 0
    """How many unreadable rows of feedback to leave out."""
    overwrite: Annotated[bool, SAME_RESULT] = False
    """Replace the output if it is there."""

    sampler: Annotated[SamplerSettings, Role("How responses are drawn")] = SamplerSettings()
    """How responses are sampled."""

    annotator: Annotated[AnnotatorChoice | None, Named(ANNOTATORS), Role("Judging them")] = None
    """Who judges the responses right away."""
    best: Annotated[bool, EXAMPLES] = False
    """Keep only the response that is judged best of each prompt."""

    max_length: Annotated[Annotated[int, Field(ge=2)] | None, Role("Model and machine")] = None
    """Most tokens of a prompt and a response together. Left out: what the model was made for."""
    max_prompt_length: Count | None = None
    """Most tokens of a prompt; a longer one loses its beginning. Left out: a prompt without room gets no response."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the computation. auto is bf16 where the device is faster with it."""
    device: Device = "auto"
    """Where to compute. auto is the GPU if there is one."""
    trust_remote_code: Annotated[bool, SAME_RESULT] = False
    """Run Python code that lies in the model's folder."""
    eos_token: str | None = None
    """Token that ends a response. Left out: the tokenizer's."""
    chat_template: str | None = None
    """File with a Jinja chat template. Left out: the tokenizer's."""

    @model_validator(mode="after")
    def _relations(self) -> SampleSettings:
        server = self.sampler.engine == "server"
        if not self.data:
            raise ValueError("data is required: files with prompts or feedback, or world:prompts")
        if not self.model and not server:
            raise ValueError(
                "model is required: a model's folder, or world; or give engine server with the base_url of a server"
            )
        if server and len(self.model) > 1:
            raise ValueError(
                "several models are given, but a server writes as one; give the one whose tokenizer and chat template "
                "it has, or none"
            )
        if self.sampler.models:
            raise ValueError("sampler.models is for training; give model several times")
        if self.best and self.annotator is None:
            raise ValueError(
                "best needs somebody who judges: give an annotator, as in --annotator reward:FOLDER"
            )
        if len(set(self.model)) < len(self.model):
            raise ValueError("a model is given twice; give it once, and more responses")
        return self


class AnnotateSettings(BaseModel):
    """What to judge or to rewrite, and by whom."""

    model_config = STRICT

    data: Annotated[Texts, Role("What to judge", affects="examples")] = ()
    """Files with feedback or samples, hub:OWNER/NAME, or world:pairs, ..."""
    output: Annotated[Text, SAME_RESULT]
    """A .jsonl or .jsonl.gz file for the judged examples."""
    skip_bad: Annotated[Amount, EXAMPLES] = 0
    """How many unreadable rows to leave out."""
    overwrite: Annotated[bool, SAME_RESULT] = False
    """Replace the output if it is there."""
    annotator: Annotated[AnnotatorChoice, Named(ANNOTATORS), Role("Who judges")]
    """Who judges the responses."""
    seed: Amount = 0
    """Seed of an annotator's noise."""
    device: Device = "auto"
    """Where a model computes. auto is the GPU if there is one."""
    trust_remote_code: Annotated[bool, SAME_RESULT] = False
    """Run Python code that lies in the model's folder."""

    rewrite: Annotated[bool, Role("Writing demonstrations instead")] = False
    """Judge nothing, but have the annotator's model write demonstrations that take the place of chosen responses."""
    rewrite_template: Text = "answer"
    """What it is asked: answer (the conversation itself), improve (the chosen response), or a file with a Jinja
    template."""
    rewrite_tokens: Count = 1024
    """Longest demonstration, in tokens."""
    rewrite_temperature: Annotated[float, Field(ge=0)] = 0.0
    """Temperature the demonstrations are drawn at; 0 takes the most likely token each time."""

    @model_validator(mode="before")
    @classmethod
    def _somebody(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("annotator") is None:
            raise ValueError(f"annotator is required, to say who judges: give {ANNOTATORS}")
        return values

    @model_validator(mode="after")
    def _relations(self) -> AnnotateSettings:
        if not self.data:
            raise ValueError("data is required: files with responses to judge")
        if not self.rewrite:
            unused = sorted(name for name in self.model_fields_set if name.startswith("rewrite_"))
            if unused:
                raise ValueError(
                    f"{unused[0]} says how demonstrations are written; add --rewrite, or leave it out"
                )
        elif not isinstance(self.annotator, EndpointAnnotator):
            raise ValueError(
                f"rewrite needs a model at an endpoint, and annotator.kind is {self.annotator.kind}; give --annotator "
                "openai with annotator.base_url and annotator.model"
            )
        elif self.annotator.template != EndpointAnnotator.template:
            raise ValueError(
                "annotator.template is what a judge is asked, and with rewrite nothing is judged; give rewrite_template"
            )
        return self
