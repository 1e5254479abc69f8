"""What every test stands on: one thread, no network, a cache of its own."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

# How fast an example runs says something of the machine, not of the code.
hypothesis_settings.register_profile("trueup", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("trueup")

# Before torch is imported anywhere, and for every process that a test starts, which is to run this checkout's code.
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ["PYTHONPATH"] = str(Path(__file__).parents[1] / "src")
sys.path.insert(0, str(Path(__file__).parent))  # `from support.tiny_models import ...`

SHARED = Path(__file__).parents[1].parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the world's model first: one process makes it while the others do something else."""
    items.sort(key=lambda item: item.get_closest_marker("world") is None)


def pytest_collection_finish() -> None:
    """What has been imported stays: neither this process nor those forked from it look through it for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What runs share is shared within one session of tests only, and by all of its processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUEUP_CACHE", str(folder))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        yield folder


@pytest.fixture(autouse=True)
def world_model(request: pytest.FixtureRequest, cache: Path) -> None:
    """Made by one of a session's processes, where a test is marked to use it."""
    if request.node.get_closest_marker("world"):
        from trueup.world.model import world_model_path

        world_model_path()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small models are slower with more, and a run under test may have set another number."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of endpoints pause without waiting; their deadlines count those pauses alone."""
    from support.virtual_time import VirtualTime

    monkeypatch.setattr("trueup.endpoints.client.Clock", lambda: VirtualTime().clock)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, it lets every file fail that is seen to the disk from then on."""
    no_space = Mock(side_effect=OSError(28, "No space left on device"))
    return lambda: monkeypatch.setattr(os, "fsync", no_space)


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What is said to people while the test runs, line by line."""
    from trueup.display import collected, logger

    with collected(logger) as lines:
        yield lines


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """A real file or model beside the checkout; the test is skipped where it is not there."""

    def located(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"not here: {path}")
        return path

    return located


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a complete model: two layers, 32 wide, with a tokenizer of single characters. Read only."""
    from support.tiny_models import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
