"""Fixtures of all tests. Annotated shapes and types of the numerical packages are checked while the tests run."""

import importlib.metadata
import importlib.util
import itertools
import os
from pathlib import Path

# Workers, the processes that tests start, and the next run of the tests share what they compile.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# On networks this small, compilation is nearly all that tests cost.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# XLA's older emitters of fused loops, which JAX has up to 0.10, compile in half the time of the newer ones, which
# `make test-all` asks for.
if os.environ.get("KILOLAYER_TESTS_COMPILE") != "fully":
    OLDER = importlib.metadata.version("jaxlib").startswith("0.10.")
    CHEAP = f"--xla_cpu_parallel_codegen_split_count=1{' --xla_cpu_use_fusion_emitters=false' if OLDER else ''}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {CHEAP}".strip()

# Triton's interpreter is for good in a process, so that on a GPU, where its compiler is tested, it is not loaded here.
# Elsewhere it is loaded before all else: late in a process with thousands of programs its library failed to load.
if importlib.util.find_spec("triton") is not None and not any(Path("/dev").glob("nvidia[0-9]*")):
    os.environ["TRITON_INTERPRET"] = "1"
    import triton  # noqa: F401

import jax
import jaxtyping
import pytest

jaxtyping.install_import_hook(
    ["kilolayer.agents", "kilolayer.data", "kilolayer.envs", "kilolayer.nn", "kilolayer.objectives"],
    "beartype.beartype",
)


TESTS = itertools.count(1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI, a test of pictures or of exports that is skipped fails: what it needs is installed there."""
    report = (yield).get_result()
    installed = item.path.parent.name in ("render", "report") or "export_packages" in item.fixturenames
    if report.skipped and os.environ.get("CI") == "true" and installed:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"


@pytest.fixture(scope="session", autouse=True)
def shared_programs():
    """Let runs with equal settings share their programs; see the module."""
    from shared_programs import share

    with pytest.MonkeyPatch.context() as patch:
        share(patch)
        yield


@pytest.fixture(autouse=True)
def bounded_memory():
    """Forget the programs of many tests before they fill the memory."""
    from shared_programs import EVERY, forget_if_short

    yield
    if next(TESTS) % EVERY == 0:
        forget_if_short()


@pytest.fixture(autouse=True)
def imported_files():
    """Forget the files that a test imports: a later test's command line would name them."""
    from kilolayer import user_code

    targets = user_code._imported
    before = list(targets)
    yield
    targets[:] = before


@pytest.fixture(scope="session")
def export_packages():
    """Skip a test where the extra `export` is not installed."""
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)


@pytest.fixture
def x64():
    """Compute in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def no_type_checks(monkeypatch):
    """Let a wrong name through to the library's own message, as it is outside the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory):
    """The directory of the small study, finished, and its outcomes; tests leave the directory as it is."""
    from small_study import run_all

    directory = tmp_path_factory.mktemp("study")
    return directory, run_all(directory)
