"""What models cost, in USD for a million tokens, until an operator says otherwise: what a new installation begins with.

From `model_prices_and_context_window.json` of LiteLLM 1.110.2 (MIT, https://github.com/BerriAI/litellm), read in November 2026: the
providers' standard prices, without those for long contexts, batches and priority. Where writing to the cache has no price of its
own, it costs what input costs. Of several beginnings of a model's name the longest counts.
"""

from __future__ import annotations

PRICES = (
    # model, input, cached input, written to the cache, output
    *(
        ("claude-haiku-4-5", "1", "0.1", "1.25", "5"),
        ("claude-haiku-5-5", "0.1", "0.01", "0.125", "0.5"),
        ("claude-sonnet-4-5", "3", "0.3", "3.75", "15"),
        ("claude-sonnet-4-6", "3", "0.3", "3.75", "15"),
        ("claude-sonnet-5", "2", "0.2", "2.5", "10"),
        ("claude-sonnet-5-5", "2", "0.1", "2.5", "10"),
        ("claude-opus-4-5", "5", "0.5", "6.25", "25"),
        ("claude-opus-4-6", "5", "0.5", "6.25", "25"),
        ("claude-opus-4-7", "5", "0.5", "6.25", "25"),
        ("claude-opus-4-8", "5", "0.5", "6.25", "25"),
        ("claude-opus-5", "5", "0.5", "6.25", "25"),
        ("claude-opus-5-5", "4", "0.2", "5", "20"),
        ("claude-fable-5", "10", "1", "12.5", "50"),
        ("claude-fable-5-1", "10", "0.25", "12.5", "50"),
    ),
    *(
        ("gpt-4.1", "2", "0.5", "2", "8"),
        ("gpt-4.1-mini", "0.4", "0.1", "0.4", "1.6"),
        ("gpt-4.1-nano", "0.1", "0.025", "0.1", "0.4"),
        ("gpt-5", "1.25", "0.125", "1.25", "10"),
        ("gpt-5-mini", "0.25", "0.025", "0.25", "2"),
        ("gpt-5-nano", "0.05", "0.005", "0.05", "0.4"),
        ("gpt-5.1", "1.25", "0.125", "1.25", "10"),
        ("gpt-5.1-codex-mini", "0.25", "0.025", "0.25", "2"),
        ("gpt-5.2", "1.75", "0.175", "1.75", "14"),
        ("gpt-5.3", "1.75", "0.175", "1.75", "14"),
        ("gpt-5.4", "2.5", "0.25", "2.5", "15"),
        ("gpt-5.4-mini", "0.75", "0.075", "0.75", "4.5"),
        ("gpt-5.4-nano", "0.2", "0.02", "0.2", "1.25"),
        ("gpt-5.5", "5", "0.5", "5", "30"),
        ("gpt-5.5-cyber", "12.5", "1.25", "12.5", "75"),
        ("gpt-5.6", "4", "0.4", "5", "20"),
        ("gpt-5.6-cyber", "12.5", "1.25", "15.625", "75"),
        ("gpt-5.6-luna", "0.2", "0.02", "0.25", "1.2"),
        ("gpt-5.6-terra", "2", "0.2", "2.5", "12"),
        ("gpt-6-astra", "10", "1", "12.5", "50"),
        ("gpt-6-luna", "0.1", "0.01", "0.125", "0.5"),
        ("gpt-6-sol", "2", "0.2", "2.5", "10"),
        ("gpt-6.1-sol", "2", "0.1", "2.5", "10"),
        ("gpt-6.1-terra", "1", "0.05", "1.25", "5"),
        ("o3", "2", "0.5", "2", "8"),
        ("o3-mini", "1.1", "0.55", "1.1", "4.4"),
        ("o3-pro", "20", "20", "20", "80"),
        ("o4-mini", "1.1", "0.275", "1.1", "4.4"),
    ),
    *(  # those that say no price for cached input have none: it costs what input costs
        ("gpt-5-pro", "15", "15", "15", "120"),
        ("gpt-5.2-pro", "21", "21", "21", "168"),
        ("gpt-5.4-pro", "30", "30", "30", "180"),
        ("gpt-5.5-pro", "30", "30", "30", "180"),
    ),
    *(
        ("gemini-2.5-flash", "0.3", "0.03", "0.3", "2.5"),
        ("gemini-2.5-flash-lite", "0.1", "0.01", "0.1", "0.4"),
        ("gemini-2.5-pro", "1.25", "0.125", "1.25", "10"),
        ("gemini-3-flash", "0.5", "0.05", "0.5", "3"),
        ("gemini-3.1-flash-lite", "0.25", "0.025", "0.25", "1.5"),
        ("gemini-3.1-pro", "2", "0.2", "2", "12"),
        ("gemini-3.5-flash", "1.5", "0.15", "1.5", "9"),
        ("gemini-3.5-flash-lite", "0.3", "0.03", "0.3", "2.5"),
        ("gemini-3.6-flash", "0.75", "0.075", "0.75", "3.75"),
        ("gemini-3.7-flash", "0.75", "0.075", "0.75", "3.75"),
        ("gemini-3.8-flash", "0.75", "0.075", "0.75", "3.75"),
        ("gemini-4-argon", "2", "0.1", "2", "10"),
        ("gemini-4-hydrogen", "1.5", "0.075", "1.5", "7.5"),
        ("gemini-flash-latest", "0.75", "0.075", "0.75", "3.75"),
        ("gemini-flash-lite-latest", "0.3", "0.03", "0.3", "2.5"),
        ("gemini-pro-latest", "2", "0.2", "2", "12"),
    ),
)
