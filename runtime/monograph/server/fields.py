"""Fields that request bodies of several APIs have, and their checks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from monograph.errors import InputError
from monograph.inputs import check_texts
from monograph.model import Role
from monograph.server.errors import Failure, RequestError
from monograph.server.limits import Limits
from monograph.server.models import CallOptions

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1}
# What APIs call queries and documents: OpenAI has none, Cohere "search_query", Jina "retrieval.passage".
_ROLES: dict[str, Role] = {
    "query": "query",
    "search_query": "query",
    "retrieval.query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
    "retrieval.passage": "document",
}
_IDS_REFUSED = (
    "token ids are not accepted: they are of another model's vocabulary, and their vectors would be silently wrong. "
    "Send texts. LangChain's OpenAIEmbeddings sends ids unless it is made with check_embedding_ctx_length=False"
)


def _check_texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise PydanticCustomError("texts", "must be a text or a list of texts")
    if texts and (_is_id(texts[0]) or (isinstance(texts[0], list) and texts[0] and _is_id(texts[0][0]))):
        raise PydanticCustomError("token_ids", "{message}", {"message": _IDS_REFUSED})
    try:
        return check_texts(texts)
    except InputError as error:
        raise PydanticCustomError("texts", "{message}", {"message": str(error)}) from error


def _is_id(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_role(value: Any) -> Role | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in _ROLES:
        raise PydanticCustomError("role", "must be one of {names}", {"names": ", ".join(_ROLES)})
    return _ROLES[value]


Texts = Annotated[list[str], PlainValidator(_check_texts), WithJsonSchema({"anyOf": [_TEXT, _TEXTS]})]
InputType = Annotated[
    Role | None,
    PlainValidator(_check_role),
    WithJsonSchema({"anyOf": [{"enum": list(_ROLES)}, {"type": "null"}]}),
    Field(description="Embed with the prompt, and for a model with routes on the route, of queries or of documents."),
]
PromptName = Annotated[str | None, Field(description="Name of a prompt of the model; default: the model's own.")]
Truncate = Annotated[
    bool | None,
    Field(description="Whether a text that is too long is truncated, or an error; default: the server's setting."),
]
_Direction = Literal["left", "right", "Left", "Right"]
Direction = Annotated[
    _Direction | None,
    Field(description="Where a text that is too long is cut; default: where the model's tokenizer cuts."),
]


def call_options(
    prompt_name: str | None, role: Role | None, truncate: bool | None, direction: str | None
) -> CallOptions:
    """Return the options of a request."""
    side = None if direction is None else "left" if direction.lower() == "left" else "right"
    return CallOptions(prompt_name, role, truncate, side)  # type: ignore[arg-type]


def check_number(texts: list[Any], limits: Limits, name: str) -> None:
    """Refuse a request without texts, or with too many.

    Raises:
        RequestError: it is one.

    """
    if not texts:
        raise RequestError(Failure.EMPTY, f"{name} must not be empty", parameter=name)
    if len(texts) > limits.max_texts:
        raise RequestError(
            Failure.TOO_LARGE,
            f"{name} has {len(texts):,} texts, and a request may have {limits.max_texts:,}: send several requests",
            parameter=name,
        )
