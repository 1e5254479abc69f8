"""What an LLM judge is told: templates that come with trueup, and a user's own."""

from trueup.annotators.templates.load import TEMPLATES as TEMPLATES
from trueup.annotators.templates.load import load_template as load_template
from trueup.annotators.templates.load import template_source as template_source
from trueup.annotators.templates.template import Template as Template
