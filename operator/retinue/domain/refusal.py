"""Why a request is refused, in the words and the shape that OpenAI clients understand.

Pure: the gateway turns a Refusal into a status line and a body, or into an error event of a running stream.
"""

from typing import Any, Final

INVALID_REQUEST: Final = "invalid_request_error"
"""OpenAI's error type for everything that the client can mend."""
SERVER_ERROR: Final = "server_error"
"""OpenAI's error type for everything that it cannot."""


class Refusal(Exception):
    """A request that is not answered. `code` is for machines, `param` names the field at fault, if one is.

    Messages may quote the client's own field names, never its content, because they are also counted and logged by
    code. `retry_after` is in seconds and becomes the header of the same name.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def document(self) -> dict[str, Any]:
        """The error as OpenAI's API writes it."""
        kind = INVALID_REQUEST if self.status < 500 else SERVER_ERROR
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def invalid(param: str, message: str, code: str = "invalid_value") -> Refusal:
    """400: the field `param` is wrong; the message says what it must be."""
    return Refusal(400, code, f"{param}: {message}", param=param)


def unsupported(param: str, message: str) -> Refusal:
    """400: the field `param` would have no effect here, and ignoring it silently would be a lie."""
    return Refusal(400, "unsupported_parameter", f"{param}: {message}", param=param)


def model_not_found(model: str) -> Refusal:
    """404: no assistant of that name is served; nothing is said about which ones are."""
    return Refusal(
        404,
        "model_not_found",
        f"model {model[:128]!r} does not exist or is not open to this key; "
        "name an assistant as <namespace>/<deployment>",
        param="model",
    )
