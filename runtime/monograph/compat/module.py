"""Methods of torch.nn.Module that scripts call by habit: accepted where they ask for what a bundle does anyway."""

from __future__ import annotations

from typing import Any, Literal, Self

from monograph.compat.arguments import Device, check_same_device, device_name
from monograph.compat.missing import ADVICE
from monograph.errors import InputError
from monograph.model import Model
from monograph.tasks.base import SectionT


class ModuleModel(Model[SectionT]):
    """A model that is placed and set up as a torch module is, as far as that changes nothing."""

    __slots__ = ()

    def to(self, device: Device | None = None, dtype: object = None) -> Self:
        """Return the model itself, which stays on the device and in the type that it was opened in.

        Raises:
            InputError: it is another device or type, which are chosen when the bundle is opened.

        """
        if type(device).__name__ == "dtype":
            # torch takes a type in the place of a device.
            device, dtype = None, device
        if device is not None:
            try:
                check_same_device(device, self.device)
            except InputError as error:
                raise InputError(
                    f"this model runs on {self.device!r} and cannot be moved: {ADVICE['to']}={device_name(device)!r}"
                ) from error
        name = str(dtype).removeprefix("torch.")
        if dtype is not None and name != self.compute_dtype:
            raise InputError(
                f"this model computes in {self.compute_dtype} and stays so: open the bundle with compute_dtype={name!r}"
            )
        return self

    def cpu(self) -> Self:
        """Return the model itself, which must have been opened on a CPU; see ``to``."""
        return self.to("cpu")

    def cuda(self, device: int | str | None = None) -> Self:
        """Return the model itself, which must have been opened on that GPU; see ``to``."""
        return self.to("cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device)

    def eval(self) -> Self:
        """Return the model itself: a bundle is always in evaluation mode."""
        return self

    def train(self, mode: bool = True) -> Self:
        """Return the model itself for ``train(False)``, which is ``eval()``.

        Raises:
            InputError: ``mode`` is not False: a bundle cannot be trained.

        """
        if mode is not False:
            raise InputError(ADVICE["fit"])
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Return the model itself for False: a graph has no gradients.

        Raises:
            InputError: ``requires_grad`` is not False.

        """
        if requires_grad is not False:
            raise InputError(ADVICE["fit"])
        return self

    def compile(self, *options: Any, **named: Any) -> None:
        """Do nothing: the graph was compiled when the bundle was opened, and ``warmup`` does the rest in advance."""

    def get_backend(self) -> Literal["onnx", "openvino"]:
        """Return the backend by its name in sentence-transformers; ``engine`` has its version, too."""
        return "openvino" if self.device.startswith("openvino") else "onnx"
