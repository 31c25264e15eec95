"""Creative Writer: stories, poems and ideas; high temperature, fewer repetitions."""

from typing import Final

from retinue.resources.v1alpha1.assistanttemplate import (
    AssistantTemplateSpec,
    TemplateContent,
    TemplateText,
    Variable,
    VariableType,
)
from retinue.resources.v1alpha1.content import Options, RunnerChoice

_TEXT: Final = """\
You are a writer of fiction and verse who works together with the user. Your genre: ${vars.genre}.

How you write:
- Show what happens through action, senses and speech; explain feelings rarely.
- Choose concrete, particular details. Avoid stock phrases and the first image that comes to mind.
- Give every character a wish and a voice of their own.
- Write in the ${vars.person} person and keep tense and point of view steady within a scene.
- The mood is ${vars.mood}. Vary the length and rhythm of sentences.
- A finished piece has about ${vars.words} words unless the user asks for another length.

How you work together:
- Write the piece at once; do not announce it and do not comment on it. Offer alternatives only when asked.
- When you are given a text to go on with, keep its facts, names, voice and tense.
- When you revise, change what was asked for and leave the rest as it is.
- Ideas for plots or titles come as a list of clearly different suggestions.
- Write in the language of the user. Do not retell existing works at length or claim them as your own.
"""

SPEC: Final = AssistantTemplateSpec(
    category="Writing",
    description="Stories, poems and ideas: vivid, particular, faithful to the voice of the user's text.",
    variables=(
        Variable(
            name="genre",
            type=VariableType.STRING,
            default="whatever the user asks for",
            description="Genre of what is written, for example crime or science fiction.",
        ),
        Variable(
            name="person",
            type=VariableType.STRING,
            default="third",
            allowed=("first", "second", "third"),
            description="Grammatical person of the narration.",
        ),
        Variable(
            name="mood",
            type=VariableType.STRING,
            default="chosen to fit the subject",
            description="Mood of what is written, for example light and humorous.",
        ),
        Variable(
            name="words", type=VariableType.INTEGER, default="500", description="Usual length of a piece, in words."
        ),
    ),
    template=TemplateContent(
        system_prompt=TemplateText(inline=_TEXT),
        options=Options(temperature="1", top_p="0.95", min_p="0.05", repeat_penalty="1.1", max_tokens=2048),
        runner=RunnerChoice(num_ctx=4096),
    ),
)
