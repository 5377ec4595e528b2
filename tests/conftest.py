"""The order of the tests: nothing is compiled twice where two processes share them.

Numba keeps what it has compiled on disk, but two processes that need a kernel at the same time both
compile it, and from empty caches that takes minutes. So the files that compile most come first and
go to one process; files that compile next to nothing follow, for the other one to begin with. Then
come the files whose tests take long: at the end they would leave one process without work.

Where tests share the cores, PyTorch's threads wait for each other most of the time: training a
small policy takes twelve times as long with two threads as with one. So there is one, also in the
processes that tests start.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

COMPILING = (
    "test_env_properties", "test_far_sighted", "test_menu", "test_mjoa_mu", "test_oracle_and_bound"
)  # fmt: skip
COMPILING_LITTLE = (
    "test_onnx", "test_from_torch", "test_dnn", "test_profile_command", "test_installation",
    "test_packaging", "test_testbed", "test_layered_model", "test_device", "test_rendering",
    "test_interactive", "test_simulator", "test_reference_simulator", "test_radio",
    "test_statistics", "test_import",
)  # fmt: skip


TAKING_LONG = ("test_training", "test_benchmark", "test_learned_suite", "test_ara", "test_readme")


def pytest_collection_modifyitems(items):
    """Sort by file."""

    def place(item):
        for k, names in enumerate((COMPILING, COMPILING_LITTLE, TAKING_LONG)):
            if item.path.stem.startswith(names):
                return k
        return 3

    items.sort(key=place)
