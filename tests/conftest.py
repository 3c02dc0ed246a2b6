"""What holds for every test: under CI a test that was skipped, or expected to fail, fails the run. The long files come first."""

import os

import pytest

LONG = ("tests/system/", "tests/engine/test_graph_recall.py", "tests/engine/test_chunk_recall.py", "tests/test_packaging.py")
FORBIDDEN_IN_CI = ("skipped", "xfailed", "xpassed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """So that no worker begins a long file when the others are done. It takes `--no-loadscope-reorder` with `--dist loadfile`."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or not isinstance(reporter, pytest.TerminalReporter):
        return
    if any(reporter.stats.get(outcome) for outcome in FORBIDDEN_IN_CI):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.section("a test was skipped, which is a failure in CI")
