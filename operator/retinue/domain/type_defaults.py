"""Options that the type of an assistant sets where neither the assistant nor its template does.

They are written into the revision, so a later change of this table changes no existing revision; it does change the
next revision of assistants that rely on it.
"""

from typing import Final

from retinue.resources.v1alpha1.assistant import AssistantType
from retinue.resources.v1alpha1.content import Capability, Options, ResponseFormat, ResponseFormatType

OPTIONS: Final = {
    AssistantType.GENERAL: Options(temperature="0.7"),
    AssistantType.SPECIALIZED: Options(temperature="0.3"),
    AssistantType.CONVERSATIONAL: Options(temperature="0.8"),
    AssistantType.TASK_ORIENTED: Options(temperature="0.2"),
    AssistantType.ANALYTICAL: Options(temperature="0.2"),
    AssistantType.CREATIVE: Options(temperature="1", top_p="0.95"),
    AssistantType.SUPPORT: Options(temperature="0.3"),
    AssistantType.EDUCATIONAL: Options(temperature="0.5"),
}
"""Default sampling options per type, in canonical decimals."""

NUM_CTX: Final = 4096
"""Tokens of the context window where nobody sets it."""
RESPONSE_FORMAT: Final = ResponseFormat(type=ResponseFormatType.TEXT)
CAPABILITIES: Final = (Capability.CHAT, Capability.COMPLETION)
"""What the gateway lets through where nobody sets it; sorted."""
CLIENT_OVERRIDES: Final = ("maxTokens", "seed", "stop")
"""Options that a client may set, never above the revision's value; sorted."""
