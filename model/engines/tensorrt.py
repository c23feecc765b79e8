"""TensorRT, by either of its packages: ``tensorrt`` and ``tensorrt-rtx`` have nearly one API."""

from __future__ import annotations

import importlib
from typing import Any

from model.engines.choice import MODULES, TensorRtName, is_installed
from model.engines.onnx_graph import INPUTS
from model.errors import EngineBuildError, EngineMissingError, how_to_install


def load(package: TensorRtName) -> Any:
    """The module of a package.

    Raises:
        EngineMissingError: it is not installed, or its libraries do not load.
    """
    if not is_installed(package):
        raise EngineMissingError(
            f"{package} is not installed; {how_to_install(package)}, or set infer.engine to torch"
        )
    (module,) = MODULES[package]
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise EngineMissingError(f"{package} is installed, but does not load: {error}") from error


def version_of(package: TensorRtName) -> str:
    """Version of an installed package."""
    return str(load(package).__version__)


def new_logger(trt: Any) -> Any:
    """A logger that keeps what it is told, to be said in an error, and prints nothing."""

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.said.append(text)

    return Logger()


def targets_of(package: TensorRtName) -> tuple[str, ...]:
    """Compute capabilities that the package builds for without the device; none for ``tensorrt``."""
    members = getattr(load(package), "ComputeCapability", None)
    names = () if members is None else members.__members__
    return tuple(name.lower() for name in names if name.startswith("SM"))


def build_engine(package: TensorRtName, graph: bytes, target: str, most_clips: int) -> bytes:
    """Build a serialised engine from an ONNX graph.

    The network is strongly typed: each layer has the precision that the graph gives it. TensorRT 11 has no other
    kind; on 10 it is asked for.

    Args:
        package: which of the two builds.
        graph: of :func:`model.engines.onnx_graph.onnx_graph`.
        target: compute capability, as ``sm89``. ``tensorrt-rtx`` builds for any without the device;
            ``tensorrt`` for the device of this machine, which the caller has to name.
        most_clips: the largest batch, and the one that it is tuned for.

    Raises:
        EngineMissingError: the package is not installed, or finds no device that it needs.
        EngineBuildError: the graph cannot be built, or there is no such target.
    """
    trt = load(package)
    logger = new_logger(trt)
    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError) as error:
        raise EngineMissingError(
            f"{package} cannot build on this machine: {_reason(logger, error)}"
        ) from error
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if _asks_for_types(trt) else 0
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        errors = "; ".join(str(parser.get_error(k)) for k in range(parser.num_errors))
        raise EngineBuildError(f"{package} does not understand the ONNX graph: {errors}")
    config = builder.create_builder_config()
    config.add_optimization_profile(_profile(builder, network, most_clips))
    if targets_of(package):
        _aim(trt, package, config, target)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise EngineBuildError(f"{package} built nothing for {target}: {_reason(logger, None)}")
    return bytes(built)


def _asks_for_types(trt: Any) -> bool:
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def _profile(builder: Any, network: Any, most_clips: int) -> Any:
    profile = builder.create_optimization_profile()
    shapes = {network.get_input(k).name: tuple(network.get_input(k).shape) for k in range(network.num_inputs)}
    for name in INPUTS:
        of_clip = shapes[name][1:]
        profile.set_shape(name, (1, *of_clip), (most_clips, *of_clip), (most_clips, *of_clip))
    return profile


def _aim(trt: Any, package: TensorRtName, config: Any, target: str) -> None:
    targets = targets_of(package)
    if target not in targets:
        raise EngineBuildError(
            f"{package} {trt.__version__} has no target {target}: name one of {', '.join(targets)}"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), 0)


def _reason(logger: Any, error: BaseException | None) -> str:
    return "; ".join(logger.said) or str(error or "it does not say why")
