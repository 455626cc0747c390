"""The routes of a model with a Router: each a model of its own, and which task takes which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Router
from torch import nn

from monograph.errors import ExportError, UnsupportedModuleError
from monograph_export.checkpoint.modules import ModelKind

_TASKS = ("query", "document")
_MODALITY = "text"
_SAMPLE = ("one text", "Another text, which is a little longer.", "Две строки\nи число 42")


@dataclass(frozen=True)
class RoutedModel:
    """A whole model and its routes, by name; a model without a Router is its own one route, under None.

    ``tasks`` says which route a task takes and ``default`` which is taken without one; None where the model refuses
    that, or has no routes. ``shared`` says that all routes are the same modules, given other tokens.
    """

    whole: BaseModel
    routes: Mapping[str | None, BaseModel]
    tasks: dict[str, str]
    default: str | None
    shared: bool = False

    @property
    def computed(self) -> Mapping[str | None, BaseModel]:
        """The routes with a graph of their own: one under None where all share it."""
        return {None: self.main} if self.shared else self.routes

    @property
    def main(self) -> BaseModel:
        """The model of texts without a task, which comes first; of any route where the model wants a task."""
        return next(iter(self.routes.values()))


def routes_of(model: BaseModel, kind: ModelKind) -> RoutedModel:
    """Return the routes that texts can take through a model, each as a model of the same modules.

    Raises:
        UnsupportedModuleError: there is more than one Router.
        ExportError: no text can take any route, or a route alone gives other vectors than the model by that route.

    """
    routers = [module for module in model if isinstance(module, Router)]
    if not routers:
        return RoutedModel(model, {None: model}, {}, None)
    if len(routers) > 1:
        raise UnsupportedModuleError(f"{len(routers)} Router modules in a row: a bundle has the routes of one")
    router = routers[0]
    mapped = (task for task, _ in router.route_mappings if task is not None)
    tasks = {task: _route(router, task) for task in dict.fromkeys((*_TASKS, *router.sub_modules, *mapped))}
    reached = {task: route for task, route in tasks.items() if route is not None}
    default = _route(router, None)
    # The default first: who reads no routes takes the first graph.
    names = dict.fromkeys((*([] if default is None else [default]), *reached.values()))
    if not names:
        raise ExportError("no route of the Router takes texts")
    routed = RoutedModel(model, {name: _one_route(model, router, name, kind) for name in names}, reached, default)
    _check(model, routed)
    return routed


def _route(router: Router, task: str | None) -> str | None:
    """Return the route of a task, None where the Router refuses it."""
    try:
        # By the method that Router.forward calls, so that every rule of precedence is its own.
        route: str | None = router._resolve_route(task, _MODALITY)
    except ValueError:
        return None
    return route


def _one_route(model: Any, router: Router, name: str, kind: ModelKind) -> BaseModel:
    modules: list[nn.Module] = []
    for module in model:
        modules += list(router.sub_modules[name]) if module is router else [module]
    settings = {
        "prompts": dict(model.prompts),
        "default_prompt_name": model.default_prompt_name,
        "similarity_fn_name": model.similarity_fn_name,
    }
    if kind.truncation is not None:
        settings[kind.truncation] = getattr(model, kind.truncation)
    route: BaseModel = kind.model_class()(modules=modules, device="cpu", **settings)
    return route.eval()


def _check(model: Any, routed: RoutedModel) -> None:
    """Compare each route with the model that takes it."""
    without = [] if routed.default is None else [(None, routed.default)]
    for task, name in (*routed.tasks.items(), *without):
        with torch.inference_mode():
            by_model, by_route = (
                m.encode(
                    list(_SAMPLE), prompt="", task=task, batch_size=1, show_progress_bar=False, convert_to_tensor=True
                ).to_dense()
                for m in (model, routed.routes[name])
            )
        if not torch.equal(by_model, by_route):
            raise ExportError(f"the route {name!r} alone gives other vectors than the model with the task {task!r}")
