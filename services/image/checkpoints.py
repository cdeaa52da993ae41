"""Image models as WebUI clients know them."""

from dataclasses import dataclass

from services.image.engine import ImageModelInfo

_SHORT = 10
_ENDING = ".safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights of an image model."""

    model: str
    """ID of the model."""
    sha256: str
    filename: str
    loaded: bool = True

    @property
    def name(self) -> str:
        """What it is called where files are named: the ID, which is one model's only."""
        return self.model

    @property
    def short_hash(self) -> str:
        """First digits of the checksum."""
        return self.sha256[:_SHORT]

    @property
    def title(self) -> str:
        """Name for people, with the short hash."""
        file = f"{self.model}{_ENDING}"
        return f"{file} [{self.short_hash}]" if self.sha256 else file

    def answers_to(self, name: str) -> bool:
        """Whether clients may mean it with a name that is no ID."""
        names = {self.title, f"{self.model}{_ENDING}", self.filename}
        hashes = {self.sha256, self.short_hash} if self.sha256 else set[str]()
        return name in names or name in hashes


def checkpoint(model: str, info: ImageModelInfo) -> Checkpoint:
    """The checkpoint of a loaded model."""
    return Checkpoint(model, info.weights_sha256, info.filename)
