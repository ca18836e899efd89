"""The APIs there are, by their providers."""

from __future__ import annotations

from agents.apis.anthropic import Anthropic
from agents.apis.base import Api
from agents.apis.gemini import Gemini
from agents.apis.openai import OpenAI

APIS: dict[str, Api] = {api.provider: api for api in (Anthropic(), OpenAI(), Gemini())}
