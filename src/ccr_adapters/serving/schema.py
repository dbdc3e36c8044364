"""What goes over the wire, as the OpenAPI page shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from ccr_adapters.serving.web import BaseModel, ConfigDict, FailFast, Field, model_validator


class Problem(BaseModel):
    """Why there is no answer: the same for every error."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"error": "LanguageError", "message": "There is no language 'xx'. There are: de, en."}
        }
    )

    error: str = Field(description="Kind of error.")
    message: str = Field(description="What came, what was expected, and what to do.")


class TextRequest(BaseModel):
    """Captions to encode."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"captions": ["ein roter Stern", "a red star"], "language": ["de", "en"]},
            "additionalProperties": False,
        }
    )

    # told at the first that is wrong: an error for each of a million would take the memory of all clients
    captions: Annotated[list[str], FailFast()] = Field(min_length=1, description="Captions, none of them empty.")
    language: str | list[str | None] | None = Field(
        default=None, description="Of all captions, or one each; `en` is the base. Default: the only one there is."
    )
    encoding: Literal["float", "base64"] = Field(
        default="float", description="Vectors as numbers, or each as base64 of little-endian float32, which is quicker."
    )

    @model_validator(mode="before")
    @classmethod
    def _first_wrong(cls, values: Any) -> Any:
        """What else could be wrong a million times."""
        if not isinstance(values, dict):
            return values
        stranger = next((key for key in values if key not in cls.model_fields), None)
        if stranger is not None:
            raise ValueError(f"there is no field {stranger!r:.80}; there are {', '.join(cls.model_fields)}")
        codes = values.get("language")
        if isinstance(codes, list) and not all(code is None or isinstance(code, str) for code in codes):
            raise ValueError("language: expected a code, or a list of codes, one a caption")
        return values


class Vectors(BaseModel):
    """Vectors of length one, in the order of what came."""

    dim: int = Field(description="Width of a vector.", examples=[512])
    encoding: Literal["float", "base64"] = Field(description="As asked for.")
    vectors: list[list[float]] | list[str] = Field(description="A vector each.", examples=[[[0.6, 0.8]]])


class Found(BaseModel):
    """A picture that was found."""

    id: str = Field(description="Its name in the collection.", examples=["photos/harbour.jpg"])
    score: float = Field(description="Cosine similarity to the question.", examples=[0.31])
    picture: str = Field(description="Where to get it.", examples=["/picture/photos/harbour.jpg"])
    metadata: dict[str, Any] = Field(description="What was stored with it.", examples=[{"year": 2021}])


class Answer(BaseModel):
    """What a search has found, best first."""

    language: str | None = Field(description="The language of the words, if there were any.", examples=["de"])
    hits: list[Found]


class Spoken(BaseModel):
    """A language that can be asked for."""

    code: str = Field(examples=["de"])
    loaded: bool = Field(description="Whether it is in memory; others are loaded when they are asked for.")
    method: str | None = Field(
        description="Kind of its adapter, where that is known before loading.", examples=["DASD"]
    )
    own_space: bool = Field(
        description="Its vectors have nothing in common with those of other languages and pictures."
    )
    source: str | None = Field(description="Name of the repository.", examples=["org/dasd-clip-de"])


class Languages(BaseModel):
    """The base and what it understands."""

    base: str = Field(examples=["openai/clip-vit-base-patch32"])
    dim: int = Field(examples=[512])
    languages: list[Spoken]


class Health(BaseModel):
    """That the server is there, and how busy it is."""

    status: Literal["ok"] = "ok"
    version: str = Field(examples=["0.1.0"])
    waiting: int = Field(description="Captions and pictures that wait.", examples=[0])
    pictures: int | None = Field(description="How many can be searched; null without a collection.", examples=[1000])
